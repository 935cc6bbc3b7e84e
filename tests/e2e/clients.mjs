// openid-client, as a mini-app's back end uses it: discovery, code and PKCE, refresh, introspection, revocation, device.
import assert from "node:assert/strict";
import * as client from "openid-client";
import { approve, balance, callback, dev } from "./edge.mjs";

const insecure = { execute: [client.allowInsecureRequests], algorithm: "oauth2" };
const discover = (id, secret) =>
  client.discovery(new URL(dev.edge), id, secret, secret ? client.ClientSecretBasic(secret) : client.None(), insecure);

const shop = await discover(dev.client_id, dev.client_secret);
const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const address = client.buildAuthorizationUrl(shop, {
  redirect_uri: callback, scope: "user:read wallet:balance", state,
  code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
});
const back = await approve(address.href);
const tokens = await client.authorizationCodeGrant(shop, back, { pkceCodeVerifier: verifier, expectedState: state });
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
const headers = { authorization: `Bearer ${dev.users["@alice:tween.example"].matrix_token}` };
const body = new URLSearchParams({ user_code: waiting.user_code, decision: "approve" });
assert.equal((await fetch(`${dev.edge}/oauth2/device`, { method: "POST", body, headers })).status, 200);
const connected = await client.pollDeviceAuthorizationGrant(device, waiting);
assert.equal(await balance(connected.access_token), 200);
