"""Authlib and oauthlib, as a mini-app's back end uses them."""

import json
import os
import pathlib
import sys
from urllib.parse import parse_qs, urlparse

import requests
from authlib.integrations.requests_client import OAuth2Session as Authlib
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from requests_oauthlib import OAuth2Session as Oauthlib

# The sandbox is on loopback without TLS.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

dev = json.loads((pathlib.Path(sys.argv[1]) / "dev.json").read_text())
edge, app, secret = dev["edge"], dev["client_id"], dev["client_secret"]
callback = "http://127.0.0.1:7999/callback"
alice = {"Authorization": "Bearer " + dev["users"]["@alice:tween.example"]["matrix_token"]}
scope = "user:read wallet:balance"


def approve(address):
    """Says yes as a chat app does, and gives the address that the browser would be sent to."""
    sent = requests.get(address, allow_redirects=False)
    session = parse_qs(urlparse(sent.headers["location"]).query)["session"][0]
    form = {"session": session, "decision": "approve"}
    answer = requests.post(edge + "/oauth2/consent", data=form, headers=alice)
    answer.raise_for_status()
    return answer.json()["redirect_uri"]


def balance(session):
    return session.get(edge + "/api/v1/wallet/balance").status_code


found = requests.get(get_well_known_url(edge, external=True)).json()
try:
    AuthorizationServerMetadata(found).validate()
except ValueError as fault:
    # RFC 8414 wants https, which a sandbox on loopback has not.
    assert "https" in str(fault), fault

# Authlib: code and PKCE, refresh, introspection, revocation.
client = Authlib(app, secret, scope=scope, redirect_uri=callback, code_challenge_method="S256")
verifier = "v" * 43
address, state = client.create_authorization_url(found["authorization_endpoint"], code_verifier=verifier)
back = approve(address)
token = client.fetch_token(
    found["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
)
assert token["user_id"] == "@alice:tween.example", token
assert balance(client) == 200
first = token["refresh_token"]
token = client.refresh_token(found["token_endpoint"])
assert token["refresh_token"] != first and balance(client) == 200
seen = client.introspect_token(found["introspection_endpoint"], token=token["access_token"]).json()
assert seen["active"] and seen["client_id"] == app, seen
client.revoke_token(found["revocation_endpoint"], token=token["refresh_token"]).raise_for_status()
assert balance(client) == 401

# oauthlib, the same with PKCE of its own.
client = Oauthlib(app, scope=scope.split(), redirect_uri=callback, pkce="S256")
address, state = client.authorization_url(found["authorization_endpoint"])
client.fetch_token(found["token_endpoint"], authorization_response=approve(address), client_secret=secret)
assert balance(client) == 200
auth = requests.auth.HTTPBasicAuth(app, secret)
client.refresh_token(found["token_endpoint"], auth=auth)
assert balance(client) == 200
