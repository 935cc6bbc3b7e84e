// The edge under test: what `tmcp-edge dev` wrote for scripts, and a few steps that every client takes.
import { readFileSync } from "node:fs";
import { createHash, randomBytes } from "node:crypto";

export const dev = JSON.parse(readFileSync(`${process.argv[2]}/dev.json`, "utf8"));
export const callback = "http://127.0.0.1:7999/callback";
export const alice = dev.users["@alice:tween.example"];

export function pkce() {
  const verifier = randomBytes(32).toString("base64url");
  return { verifier, challenge: createHash("sha256").update(verifier).digest("base64url") };
}

export function authorize(clientId, scope, challenge, state = "s1") {
  const query = new URLSearchParams({
    response_type: "code", client_id: clientId, redirect_uri: callback, scope, state,
    code_challenge: challenge, code_challenge_method: "S256",
  });
  return `${dev.edge}/oauth2/authorize?${query}`;
}

export async function token(form, clientId = "ma_demo_public") {
  const body = new URLSearchParams({ client_id: clientId, ...form });
  const answer = await fetch(`${dev.edge}/oauth2/token`, { method: "POST", body });
  return { status: answer.status, ...(await answer.json()) };
}

export async function balance(accessToken) {
  const headers = { authorization: `Bearer ${accessToken}` };
  return (await fetch(`${dev.edge}/api/v1/wallet/balance`, { headers })).status;
}

/// Says yes as a chat app does: with the user's Matrix access token.
export async function approve(address) {
  const sent = await fetch(address, { redirect: "manual" });
  const session = new URL(sent.headers.get("location")).searchParams.get("session");
  const body = new URLSearchParams({ session, decision: "approve" });
  const headers = { authorization: `Bearer ${alice.matrix_token}` };
  const answer = await fetch(`${dev.edge}/oauth2/consent`, { method: "POST", body, headers });
  return new URL((await answer.json()).redirect_uri);
}
