//! The command line: its names are in `cli`, what each command does is in `commands`.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use tmcp_edge::commands::revoke::Asked;
use tmcp_edge::commands::{self, app};
use tmcp_edge::model::RevokeRequest;

use crate::cli::{AppAction, Cli, Command, KeysAction, StoreAction, Switch};

/// 17 % more requests a core than the system's allocator on a bare Pingora proxy; see `benches/README.md`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Dev { listen, admin, state } => commands::dev::dev(listen, admin, &state),
        Command::Run { config, upgrade } => commands::run::run(&config.config, upgrade),
        Command::Check { config, explain } => commands::inspect::check(config.as_deref(), explain),
        Command::Routes { config } => commands::inspect::routes(&config.config),
        Command::Token { config, user, app, scope, ttl } => {
            commands::keys::token(&config.config, &user, &app, &scope, ttl)
        }
        Command::Keys { action } => match action {
            KeysAction::New(at) => commands::keys::new(&at.config),
            KeysAction::List(at) => commands::keys::list(&at.config),
            KeysAction::Rotate(at) => commands::keys::rotate(&at.config),
            KeysAction::Reseal(at) => commands::keys::reseal(&at.config),
            KeysAction::Revoke { kid, config } => commands::keys::revoke(&config.config, &kid),
        },
        Command::Revoke { config, payments: Some(switch), .. } => {
            commands::revoke::revoke(&config.config, Asked::Payments(matches!(switch, Switch::On)))
        }
        Command::Revoke { config, app, user, grant, token, key, issuer, payments: None } => {
            let request = RevokeRequest { app, user, grant, token, key, issuer };
            commands::revoke::revoke(&config.config, Asked::Revoke(request))
        }
        Command::App { action } => match action {
            AppAction::Add { config, entry, file, replace, json } => {
                let asked = match file {
                    Some(file) => app::Asked::File(file),
                    None if entry.id.is_some() => app::Asked::Entry(Box::new((*entry).into())),
                    None => app::Asked::Nothing,
                };
                app::add(&config.config, &asked, replace, json)
            }
            AppAction::List { config, json } => app::list(&config.config, json),
            AppAction::Show { id, config, json } => app::show(&config.config, &id, json),
            AppAction::RotateSecret { id, config, webhook: true, json, .. } => {
                app::rotate_webhook_secret(&config.config, &id, json)
            }
            AppAction::RotateSecret { id, config, old_valid_for, json, .. } => {
                app::rotate_secret(&config.config, &id, &old_valid_for, json)
            }
            AppAction::Suspend { id, config, reason } => app::suspend(&config.config, &id, reason),
            AppAction::Resume { id, config } => app::resume(&config.config, &id),
            AppAction::Remove { id, config } => app::remove(&config.config, &id),
        },
        Command::Store { action } => match action {
            StoreAction::Backup { config, file } => commands::store::backup(&config.config, &file),
            StoreAction::Restore { config, force, stopped, file } => {
                commands::store::restore(&config.config, &file, force, stopped)
            }
            StoreAction::Copy { config, to, force, stopped } => {
                commands::store::copy(&config.config, &to, force, stopped)
            }
        },
        Command::Registration { config } => commands::inspect::registration(&config.config),
        Command::Sandbox { wallet, homeserver, miniapp } => commands::dev::sandbox(wallet, homeserver, miniapp),
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            eprintln!("tmcp-edge: {message}");
            ExitCode::FAILURE
        }
    }
}
