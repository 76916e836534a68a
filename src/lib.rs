//! Amalfa: a semantic search service. Text in, ranked documents out, and an account of where the time went.
//!
//! Modules in reading order: the words ([`domain`], [`error`]); the search path ([`search`], [`engine`], [`model`],
//! [`store`]); filling it ([`ingest`]); the face ([`api`], [`admin`], [`health`]); the senses ([`telemetry`]); and the
//! one place that composes them ([`app`], from [`config`], for [`cli`]).

pub mod domain;
pub mod error;

pub mod engine;
pub mod model;
pub mod search;
pub mod store;

pub mod ingest;

pub mod admin;
pub mod api;
pub mod health;

pub mod telemetry;

pub mod app;
pub mod cli;
pub mod config;
pub mod tools;
