//! What keeps others out: secrets that stay secret, roles with few rights, and SQL that is made in one place.

mod door;
mod roles;
mod secrets;
mod statements;
