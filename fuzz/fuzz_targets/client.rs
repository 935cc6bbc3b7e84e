//! Whatever stands after `Basic`, nobody is let in without the secret; with it, however it has to be encoded, one is.
#![no_main]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tmcp_edge::config::MiniApp;
use tmcp_edge::model::MiniAppId;
use tmcp_edge::model::miniapp::ClientType;
use tmcp_edge::policy::authn::{Registry, clients};
use tmcp_edge::store::seal::sha256;
use url::form_urlencoded::byte_serialize;

fn registry(secret: &str) -> Registry {
    let id = MiniAppId::parse("ma_shop").unwrap();
    let secret_hashes = vec![sha256(secret.as_bytes())];
    let app = MiniApp { client_type: ClientType::Confidential, secret_hashes, ..MiniApp::new(id.clone(), "Shop") };
    Registry::new([(id, Arc::new(app))].into(), Arc::default())
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let unknown = registry("a secret that no input holds, for it is drawn from nowhere");
    assert!(clients::authenticate(&unknown, text).is_err());
    assert!(clients::authenticate(&unknown, &STANDARD.encode(text)).is_err());
    let pair = format!("ma_shop:{}", byte_serialize(text.as_bytes()).collect::<String>());
    let credential = STANDARD.encode(pair);
    if credential.len() <= clients::MAX_CREDENTIAL {
        assert!(clients::authenticate(&registry(text), &credential).is_ok());
    }
});
