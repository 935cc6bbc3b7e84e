//! `check`, `routes` and `registration`: looking at a config without serving it.

use std::path::Path;
use std::process::ExitCode;

use super::load;
use crate::config;
use crate::policy::route::{self, RouteTable};

/// `tmcp-edge check`: every error of a config, or what its keys mean. It does not open the store.
pub fn check(path: Option<&Path>, explain: bool) -> Result<ExitCode, String> {
    if explain {
        print!("{}", config::explain());
        return Ok(ExitCode::SUCCESS);
    }
    let path = path.ok_or("--config is missing")?;
    let config = match config::load(path, &|name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    println!(
        "{}: ok, {} routes, {} upstreams",
        path.display(),
        RouteTable::build(&config).routes().len(),
        config.upstreams.len()
    );
    for unlisted in &config.unlisted {
        println!("Note: {}", unlisted.place);
    }
    if let Err(unmet) = config.require_for_run() {
        println!("`run` will also need:\n{unmet}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge routes`: the route table as people read it.
pub fn routes(path: &Path) -> Result<ExitCode, String> {
    print!("{}", route::describe(&RouteTable::build(&load(path)?)));
    Ok(ExitCode::SUCCESS)
}

/// `tmcp-edge registration`: what the config holds of the Application Service registration. Its tokens are not printed:
/// this lands on screens and in tickets.
pub fn registration(path: &Path) -> Result<ExitCode, String> {
    let config = load(path)?;
    let service = config.appservice.ok_or("the config names no registration: set appservice.registration")?;
    let namespaces = |list: &[config::Namespace]| -> String {
        list.iter().map(|n| format!("    - exclusive: {}\n      regex: {:?}\n", n.exclusive, n.regex)).collect()
    };
    println!("id: {}", service.id);
    println!("url: {}", service.url);
    println!("as_token: <kept in {}>", service.file.display());
    println!("hs_token: <kept in {}>", service.file.display());
    println!("sender_localpart: {}", service.sender_localpart);
    print!("namespaces:\n  users:\n{}  aliases:\n{}", namespaces(&service.users), namespaces(&service.aliases));
    Ok(ExitCode::SUCCESS)
}
