//! Proto to domain and back. What comes out of here has been checked against every limit.

mod json;
mod request;
mod response;

pub(super) use self::request::{PageToken, document, embed, filter, page_size, page_token, search_batch};
pub use self::request::{query, rerank};
pub(super) use self::response::{
    answer, answer_received, item_error, listed, outcome, rerank_step, rerank_step_received, timings,
};
