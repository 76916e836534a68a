//! Finds and loads ONNX Runtime's shared library, once per process.
//!
//! Loading it here rather than leaving it to fastembed turns a missing or too old library into an error with advice; there
//! it is a panic. ONNX Runtime allows one environment per process, so it is made here and passed to every session.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;

use super::places;
use crate::error::{Error, Result};

const ADVICE: &str = "run `make setup`, which puts it into .onnxruntime/, or set ORT_DYLIB_PATH to the library of ONNX Runtime 1.24 or later";
const LIBRARY: &str = if cfg!(windows) {
    "onnxruntime.dll"
} else if cfg!(target_vendor = "apple") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// The loaded library; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) environment: Environment,
    /// As the library itself says it: `1.24.4`.
    pub(super) version: String,
}

impl Runtime {
    /// Loads the library, or returns the one that this process has loaded already, wherever it came from.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when it is missing, broken or too old. A later call may try another.
    pub(super) fn load(configured: Option<&Path>) -> Result<Self> {
        // Another thread's panic leaves at worst `None` behind, so the lock's poison means nothing here.
        let mut loaded = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let runtime = open(&library(configured)?)?;
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }
}

/// Returns the library's path: configured, by `ORT_DYLIB_PATH`, beside the binary, or in a `.onnxruntime` near it.
fn library(configured: Option<&Path>) -> Result<PathBuf> {
    let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = configured {
        return existing(path, "model.onnxruntime");
    }
    if let Some(path) = &variable {
        return existing(path, "ORT_DYLIB_PATH");
    }
    let beside = places::binary_folder().map(|folder| folder.join(LIBRARY)).filter(|path| path.is_file());
    beside.or_else(|| places::find(&Path::new(".onnxruntime").join(LIBRARY))).ok_or_else(|| {
        Error::setup(
            format!("ONNX Runtime ({LIBRARY}) is neither beside the binary nor in a .onnxruntime near it"),
            ADVICE,
        )
    })
}

/// Returns the absolute path, so that neither ort nor the dynamic linker searches elsewhere.
fn existing(path: &Path, setting: &str) -> Result<PathBuf> {
    let found = path.canonicalize().ok().filter(|found| found.is_file());
    found.ok_or_else(|| Error::setup(format!("{setting} names no file: {}", path.display()), ADVICE))
}

fn open(path: &Path) -> Result<Runtime> {
    let builder = ort::init_from(path).map_err(|error| Error::setup(describe(&error, path), ADVICE))?;
    let environment = builder
        .with_name("amalfa")
        .with_telemetry(false)
        .build()
        .map_err(|error| Error::internal("ONNX Runtime's environment could not be made", error))?;
    let version = version(path).ok_or_else(|| Error::bug("ONNX Runtime does not tell its version"))?;
    tracing::debug!(path = %path.display(), version, "ONNX Runtime loaded");
    Ok(Runtime { environment, version })
}

fn describe(error: &LoadDynamicError, path: &Path) -> String {
    match error {
        LoadDynamicError::BadVersion { version_str, .. } => {
            format!("ONNX Runtime at {} is version {version_str}, too old", path.display())
        }
        LoadDynamicError::Dlopen { error, .. } => format!("{} cannot be loaded: {error}", path.display()),
        _ => format!("{} is not an ONNX Runtime library", path.display()),
    }
}

/// Asks the library for its version; ort checks it but does not hand it out, and the build information lacks it.
#[allow(unsafe_code)]
fn version(path: &Path) -> Option<String> {
    type ApiBase = unsafe extern "system" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: `init_from` has just loaded this file, called the same two functions and found the answers sound, and keeps
    // it loaded for the life of the process; so this only takes another handle and the string outlives its copy here.
    unsafe {
        let library = libloading::Library::new(path).ok()?;
        let base = library.get::<ApiBase>(b"OrtGetApiBase").ok()?().as_ref()?;
        Some(CStr::from_ptr((base.GetVersionString)()).to_str().ok()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup_error(result: Result<impl std::fmt::Debug>) -> String {
        match result.unwrap_err() {
            error @ Error::Setup { .. } => error.to_string(),
            other => panic!("not a setup error: {other:?}"),
        }
    }

    #[test]
    fn the_library_is_loaded_once_and_tells_its_version() {
        let first = Runtime::load(None).unwrap();
        assert!(first.version.starts_with("1."), "{}", first.version);
        assert_eq!(Runtime::load(Some(Path::new("/elsewhere"))).unwrap().version, first.version);
    }

    #[test]
    fn a_missing_library_says_what_to_run() {
        let message = setup_error(library(Some(Path::new("/nowhere/libonnxruntime.so"))));
        assert!(message.contains("model.onnxruntime") && message.contains("make setup"), "{message}");
    }

    #[test]
    fn a_file_that_is_no_library_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a library").unwrap();
        // By its own path and not through `load`: another test may have loaded the real one.
        let error = ort_load_error(file.path());
        assert!(describe(&error, file.path()).contains("cannot be loaded"), "{error}");
    }

    fn ort_load_error(path: &Path) -> LoadDynamicError {
        // SAFETY is libloading's: opening a text file runs no code.
        #[allow(unsafe_code)]
        let error = unsafe { libloading::Library::new(path) }.unwrap_err();
        LoadDynamicError::Dlopen { error, path: path.to_path_buf() }
    }

    #[test]
    fn a_library_that_is_too_old_is_named_with_its_version() {
        let path = PathBuf::from("/old/libonnxruntime.so");
        let error = LoadDynamicError::BadVersion { version_str: "1.20.1".to_owned(), path: path.clone() };
        assert_eq!(describe(&error, &path), "ONNX Runtime at /old/libonnxruntime.so is version 1.20.1, too old");
    }
}
