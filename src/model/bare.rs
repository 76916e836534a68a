//! The model without the service around it: what benchmarks compare with.

use super::onnx::Onnx;
use super::runtime::Runtime;
use super::source::Source;
use super::{Config, use_calling_thread};
use crate::error::Result;

/// One session on the caller's thread: fastembed as anyone would call it, with the same files and settings.
#[derive(Debug)]
pub struct Bare(Onnx);

impl Bare {
    /// Loads the configured model into one session.
    ///
    /// # Errors
    ///
    /// As [`super::Model::load`].
    pub fn load(config: &Config) -> Result<Self> {
        use_calling_thread();
        let runtime = Runtime::load(config.onnxruntime.as_deref())?;
        Ok(Self(Onnx::load(&Source::find(config)?, &runtime)?))
    }

    /// Embeds one text, no prefix added. Blocking.
    ///
    /// # Errors
    ///
    /// [`crate::error::Error::Internal`] when the call fails.
    pub fn embed(&mut self, text: &str) -> Result<Vec<f32>> {
        self.0.embed(text)
    }
}
