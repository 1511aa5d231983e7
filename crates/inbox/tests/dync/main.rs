//! Clients of dync against the listener over a folder: a probe in Python with libzmq beneath it, and a server in a process
//! of its own, so that it can be killed.

#![cfg(feature = "dync")]

mod desk;
mod needs_pyzmq;
mod server;
