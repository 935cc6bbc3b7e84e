//! An edge without sockets of its own, under a clock that a test moves: from a request's parts through the policy to the
//! operation's answer, as the gateway does it.

use std::fs;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::HeaderValue;
use http::request::Parts;
use serde_json::{Value, json};
use tmcp_edge::clock::{Clock, ManualClock};
use tmcp_edge::config;
use tmcp_edge::error::Refusal;
use tmcp_edge::live::Live;
use tmcp_edge::model::oauth::{Device, UserCode};
use tmcp_edge::model::{MiniAppId, ScopeSet};
use tmcp_edge::operations::{self, Call, Local};
use tmcp_edge::policy::{Exchange, Trail};
use tmcp_edge::sandbox::{Running, Sandbox, SandboxConfig};
use tmcp_edge::snapshot::Snapshot;
use tmcp_edge::store::oauth::{Approvals, Devices};
use tmcp_edge::upstream::forward::Trace;
use url::form_urlencoded::Serializer;

use crate::edge::{APP, SERVER_NAME, hex, ordinary, user};

const SECRET: &str = "the shop's";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// When its clock starts, seconds since the Unix epoch.
const STARTS: u64 = 1_800_000_000;

pub struct Inside {
    live: Live,
    snapshot: Snapshot,
    hand: ManualClock,
    sandbox: Running,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Inside {
    pub fn start() -> Inside {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (clock, hand) = Clock::manual(STARTS);
        let now = clock.clone();
        let sandbox = SandboxConfig::demo(Arc::new(move || now.unix())).unwrap();
        let sandbox = runtime.block_on(Sandbox::start(sandbox)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("upstreams")).unwrap();
        let homeserver = sandbox.homeserver.as_ref().unwrap().address();
        let upstream = format!("name: homeserver\naddresses: [\"{homeserver}\"]\ntls: false\n");
        write("upstreams/homeserver.yaml", upstream);
        write("master.key", "5a".repeat(32));
        let hash = hex(digest::digest(&digest::SHA256, SECRET.as_bytes()).as_ref());
        let scopes = ordinary().to_string().replace(' ', ", ");
        let app = format!("id: {APP}, name: Shop, type: confidential, scopes: [{scopes}]");
        write("miniapps.yaml", format!("miniapps:\n  - {{ {app}, client_secret_hashes: [\"{hash}\"] }}\n"));
        let main = format!(
            "public_url: https://edge.example\nserver_name: {SERVER_NAME}\nserver: {{ listen: [{{ address: \"127.0.0.1:0\" }}] }}\n\
             store: {{ kind: embedded, path: store }}\nkeys: {{ master_key_file: master.key }}\nupstreams: upstreams\n\
             miniapps: {{ file: miniapps.yaml }}\nlog: {{ access: off }}\n\
             oauth: {{ resource_servers: [{{ id: wallet, secret_hashes: [{hash}] }}] }}\n"
        );
        write("edge.yaml", main);
        let config = config::load(&folder.path().join("edge.yaml"), &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let live = Live::open(&config, clock).unwrap();
        let snapshot = Snapshot::build(config, &live, None).unwrap();
        Inside { live, snapshot, hand, sandbox, runtime, _folder: folder }
    }

    /// Lets that much time pass. The log of revocations is looked at, as a running edge does all the time.
    pub fn advance(&self, by: Duration) {
        self.hand.advance(by);
        self.runtime.block_on(self.live.revocations.look()).unwrap();
    }

    pub fn matrix_token(&self, localpart: &str) -> String {
        let tokens = self.sandbox.matrix_tokens();
        tokens.into_iter().find(|(known, _)| *known == user(localpart)).unwrap().1
    }

    /// A user has approved these scopes for the shop.
    pub fn approve(&self, localpart: &str, scopes: ScopeSet) {
        let (approvals, app) = (Approvals::new(self.live.store.clone()), MiniAppId::parse(APP).unwrap());
        self.runtime.block_on(approvals.add(&user(localpart), &app, scopes, STARTS)).unwrap();
    }

    /// A user says yes to the device that shows this code.
    pub fn allow_device(&self, localpart: &str, user_code: &str) {
        let now = u64::try_from(self.live.clock.unix().as_millis()).unwrap();
        self.answer_device(user_code, |device| {
            let scopes = device.scopes;
            device.approved(user(localpart), scopes, now, 0)
        });
    }

    /// A user says no to it.
    pub fn deny_device(&self, user_code: &str) {
        self.answer_device(user_code, Device::denied);
    }

    fn answer_device(&self, user_code: &str, answer: impl FnOnce(Device) -> Option<Device>) {
        let (devices, code) = (Devices::new(self.live.store.clone()), UserCode::parse(user_code).unwrap());
        let now = u64::try_from(self.live.clock.unix().as_millis()).unwrap();
        let done = self.runtime.block_on(async {
            let (id, held) = devices.by_user_code(&code).await.unwrap().unwrap();
            let answered = answer(held.value.clone()).unwrap();
            devices.change(id, &held, &answered, now).await.unwrap()
        });
        assert!(done, "somebody else answered");
    }

    /// A form of the shop's, which authenticates in it: status and body of the answer.
    pub fn post(&self, path: &str, pairs: &[(&str, &str)]) -> (u16, Value) {
        self.post_as(APP, path, pairs)
    }

    /// The same of another client, or of the resource server `wallet`.
    pub fn post_as(&self, client: &str, path: &str, pairs: &[(&str, &str)]) -> (u16, Value) {
        let client = [("client_id", client), ("client_secret", SECRET)];
        let body = Serializer::new(String::new()).extend_pairs(pairs).extend_pairs(client).finish();
        let head = http::Request::post(path)
            .header("host", "edge.example")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("content-length", body.len());
        let (head, ()) = head.body(()).unwrap().into_parts();
        match self.runtime.block_on(self.answer(Form { head, body: body.into() })) {
            Ok(local) => (local.status.as_u16(), serde_json::from_slice(&local.body).unwrap()),
            Err(refusal) => {
                let error = refusal.oauth_error().map(|error| error.as_str());
                (refusal.status().as_u16(), json!({"error": error, "error_description": refusal.message()}))
            }
        }
    }

    async fn answer(&self, mut form: Form) -> Result<Local, Refusal> {
        let mut trail = Trail::default();
        let permit = self.snapshot.policy.admit(&mut form, CLIENT, &mut trail).await?;
        let id = HeaderValue::from_static("1");
        let call = Call {
            caller: &trail.caller,
            method: &form.head.method,
            params: Default::default(),
            query: form.head.uri.query(),
            headers: &form.head.headers,
            address: self.snapshot.policy.guard.address(CLIENT),
            trace: Trace { request_id: id.clone(), trace_id: id.clone(), traceparent: id },
            arrived_at: u64::try_from(self.live.clock.unix().as_millis()).unwrap(),
        };
        operations::answer(&permit, &self.snapshot.services, call).await
    }
}

struct Form {
    head: Parts,
    body: Bytes,
}

impl Exchange for Form {
    fn head(&self) -> &Parts {
        &self.head
    }

    fn read_body(&mut self, _cap: usize) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        std::future::ready(Ok(self.body.clone()))
    }
}
