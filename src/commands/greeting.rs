//! What `dev` prints: where everything is, and lines that can be pasted into a shell as they stand.

use std::path::Path;

use serde_json::Value;

use super::dev::{APP, PUBLIC_APP};
use crate::sandbox::DEMO_PASSWORD;

/// With a token at hand.
const TRY: &str = r#"TOKEN={token}
curl -i -H "Authorization: Bearer $TOKEN" {edge}/api/v1/wallet/balance
curl -i -H "Authorization: Bearer $TOKEN" '{edge}/api/v1/wallet/resolve/@bob:tween.example?room_id=!chat:tween.example'
curl -i -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"recipient":"@bob:tween.example","amount":5.00,"currency":"USD","note":"lunch","idempotency_key":"try-1"}' \
  {edge}/api/v1/wallet/p2p/initiate
curl -s {wallet}/_sandbox/requests"#;

/// From nothing to a balance: the mini-app asks, the chat app answers with the user's Matrix token in the browser's place.
const DANCE: &str = r#"MATRIX={matrix}
VERIFIER=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
CHALLENGE=$(printf %s "$VERIFIER" | openssl dgst -sha256 -binary | base64 | tr '+/' '-_' | tr -d '=')
BACK=http://127.0.0.1:7999/callback
ASK="{edge}/oauth2/authorize?response_type=code&client_id={client}&redirect_uri=$BACK&scope=user:read+wallet:balance&state=1&code_challenge=$CHALLENGE&code_challenge_method=S256"
SESSION=$(curl -s -o /dev/null -w '%{redirect_url}' "$ASK" | sed 's/.*session=//')
curl -i -H "Authorization: Bearer $MATRIX" "{edge}/oauth2/consent?session=$SESSION"
CODE=$(curl -s -H "Authorization: Bearer $MATRIX" -d "session=$SESSION" -d decision=approve {edge}/oauth2/consent | sed 's/.*[?&]code=\([^&]*\)&.*/\1/')
TOKENS=$(curl -s -d grant_type=authorization_code -d client_id={client} -d "redirect_uri=$BACK" -d "code_verifier=$VERIFIER" -d "code=$CODE" {edge}/oauth2/token)
field() { echo "$TOKENS" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
TOKENS=$(curl -s -d grant_type=refresh_token -d client_id={client} -d "refresh_token=$(field refresh_token)" {edge}/oauth2/token)
curl -i -H "Authorization: Bearer $(field access_token)" {edge}/api/v1/wallet/balance"#;

/// The greeting; `told` is what `dev.json` says.
pub fn of(told: &Value, state: &Path) -> String {
    let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (edge, wallet, token) = (text("/edge"), text("/wallet"), text("/users/@alice:tween.example/tep_token"));
    let fill = |lines: &str| {
        lines
            .replace("{edge}", edge)
            .replace("{wallet}", wallet)
            .replace("{token}", token)
            .replace("{matrix}", text("/users/@alice:tween.example/matrix_token"))
            .replace("{client}", PUBLIC_APP)
    };
    format!(
        "edge        {edge}\nadmin       {}\nwallet      {wallet}\nhomeserver  {}\nmini-app    {}\n\n\
         TEP token of @alice:tween.example for {APP}, good for a day:\n\n{token}\n\n\
         Try:\n\n{}\n\n\
         A mini-app gets its tokens by OAuth; alice says yes with her chat app, which these lines stand in for:\n\n{}\n\n\
         To register a mini-app of your own while it runs:\n\n\
         tmcp-edge app add --config {state}/edge.yaml --id ma_mine --name Mine --redirect-uri http://127.0.0.1/callback --scope wallet:balance\n\n\
         In a browser: {edge}/oauth2/apps shows alice (password {DEMO_PASSWORD}) what she has allowed.\n\n\
         The config is {state}/edge.yaml; the same for scripts is {state}/dev.json. Ctrl-C stops it all.",
        text("/admin"),
        text("/homeserver"),
        text("/miniapp"),
        fill(TRY),
        fill(DANCE),
        state = state.display(),
    )
}
