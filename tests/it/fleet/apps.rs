//! A command registers or changes a mini-app, and every edge knows.

use futures::future::join_all;
use serde_json::Value;

use super::edges::{Fleet, Member, Told};
use super::servers::Server;

const ID: &str = "ma_coffee";

/// What the mini-app is told that asks for a device's code; what it says does not matter, but whether it may.
async fn asks(edge: &Member, secret: &str) -> Told {
    edge.form_as((ID, secret), "/oauth2/device/authorization", &[("scope", "user:read")]).await
}

/// Asks every edge until each has answered so.
async fn everywhere(fleet: &Fleet, secret: &str, what: &str, so: impl Fn(&Told) -> bool) {
    let each = fleet.edges.iter().map(async |edge| while !so(&asks(edge, secret).await) {});
    join_all(each).await;
    println!("{what}: every edge knows");
}

fn is_error(told: &Told, error: &str) -> bool {
    told.body["error"] == error
}

fn secret(said: &str) -> String {
    let said: Value = serde_json::from_str(said).unwrap();
    let said = said.as_array().map_or(&said, |one| &one[0]);
    said["client_secret"].as_str().unwrap().to_owned()
}

async fn every_change(fleet: &Fleet) {
    let command = async |arguments: &[&str]| tokio::task::block_in_place(|| fleet.command(arguments));
    let redirect = "https://coffee.example/callback";
    let add = ["app", "add", "--id", ID, "--name", "Coffee", "--type", "confidential", "--redirect-uri", redirect];
    let added = command(&[&add[..], &["--scope", "user:read", "--json"]].concat()).await;
    let first = secret(&added);
    everywhere(fleet, &first, "add", |told| told.status == 200).await;

    let rotate = ["app", "rotate-secret", ID, "--old-valid-for", "0", "--json"];
    let second = secret(&command(&rotate).await);
    everywhere(fleet, &second, "rotate-secret", |told| told.status == 200).await;
    everywhere(fleet, &first, "the old secret", |told| is_error(told, "invalid_client")).await;

    command(&["app", "suspend", ID]).await;
    everywhere(fleet, &second, "suspend", |told| is_error(told, "unauthorized_client")).await;
    command(&["app", "resume", ID]).await;
    everywhere(fleet, &second, "resume", |told| told.status == 200).await;
    command(&["app", "remove", ID]).await;
    everywhere(fleet, &second, "remove", |told| is_error(told, "invalid_client")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_does_to_a_mini_app_every_edge_knows() {
    let server = Server::start(&[]);
    every_change(&Fleet::on(&server).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_push_looking_finds_it() {
    let server = Server::start(&[]);
    let fleet = Fleet::on(&server).await;
    server.ask::<()>("ACL SETUSER default -subscribe");
    server.ask::<i64>("CLIENT KILL TYPE pubsub");
    every_change(&fleet).await;
}
