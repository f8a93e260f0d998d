//! Webhook requests as the providers send them: bodies of realistic shape and size, signed, ready for the socket.

mod request;
mod template;
mod templates;

pub use request::{Kits, Request};
