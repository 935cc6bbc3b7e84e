//! A wallet, a homeserver and a mini-app to develop against, in process.
