// openid-client, as a mini-app's back end uses it: discovery, code and PKCE, refresh, introspection, revocation, device;
// and a hybrid's front and back end, and the exchange of a Matrix session.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { alice, approve, balance, callback, dev } from "./edge.mjs";

const insecure = { execute: [client.allowInsecureRequests], algorithm: "oauth2" };
const discover = (id, secret) =>
  client.discovery(new URL(dev.edge), id, secret, secret ? client.ClientSecretBasic(secret) : client.None(), insecure);

async function signIn(config) {
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const address = client.buildAuthorizationUrl(config, {
    redirect_uri: callback, scope: "user:read wallet:balance", state,
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
  });
  const back = await approve(address.href);
  return client.authorizationCodeGrant(config, back, { pkceCodeVerifier: verifier, expectedState: state });
}

const shop = await discover(dev.client_id, dev.client_secret);
const tokens = await signIn(shop);
assert.equal(await balance(tokens.access_token), 200);
const refreshed = await client.refreshTokenGrant(shop, tokens.refresh_token);
assert.equal(await balance(refreshed.access_token), 200);
const seen = await client.tokenIntrospection(shop, refreshed.access_token);
assert.ok(seen.active && seen.sub === "@alice:tween.example", JSON.stringify(seen));
await client.tokenRevocation(shop, refreshed.refresh_token);
await assert.rejects(client.refreshTokenGrant(shop, refreshed.refresh_token), { error: "invalid_grant" });
assert.equal(await balance(refreshed.access_token), 401);

const device = await discover("ma_demo_public");
const waiting = await client.initiateDeviceAuthorization(device, { scope: "wallet:balance" });
const headers = { authorization: `Bearer ${alice.matrix_token}` };
const body = new URLSearchParams({ user_code: waiting.user_code, decision: "approve" });
assert.equal((await fetch(`${dev.edge}/oauth2/device`, { method: "POST", body, headers })).status, 200);
const connected = await client.pollDeviceAuthorizationGrant(device, waiting);
assert.equal(await balance(connected.access_token), 200);

// The shop is a hybrid: its front signs in without the secret, and gets nowhere with what the back end was given.
const front = await discover(dev.client_id);
const fronts = await client.refreshTokenGrant(front, (await signIn(front)).refresh_token);
assert.equal(await balance(fronts.access_token), 200);
const backs = await signIn(shop);
await assert.rejects(client.refreshTokenGrant(front, backs.refresh_token), { error: "invalid_grant" });
await client.refreshTokenGrant(shop, backs.refresh_token);

// A Matrix session becomes the shop's, for what alice has approved before.
const exchange = (scope) => client.genericGrantRequest(shop, "urn:ietf:params:oauth:grant-type:token-exchange", {
  subject_token: alice.matrix_token, subject_token_type: "urn:ietf:params:oauth:token-type:access_token", scope,
});
const delegated = await exchange("wallet:balance");
assert.ok(delegated.delegated_session, JSON.stringify(delegated));
assert.equal(await balance(delegated.access_token), 200);
assert.equal(await balance((await client.refreshTokenGrant(shop, delegated.refresh_token)).access_token), 200);
await assert.rejects(exchange("wallet:history"), { error: "consent_required" });
