//! The two protocols: where a request goes, what it says, and where in the answer the model's words are.

use std::net::IpAddr;

use http::Uri;
use serde_json::{Value, json};

use super::prompt::Prompt;
use super::{Config, Protocol};
use crate::error::{Error, Result};

/// An address and what is spoken there.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) uri: Uri,
    protocol: Protocol,
    model: String,
    temperature: Option<f32>,
}

impl Endpoint {
    /// Returns the configured endpoint; `None` when none is configured.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an address that is none, or that holds a password: settings are printed.
    pub(super) fn new(config: &Config) -> Result<Option<Self>> {
        let Some(base) = config.endpoint.as_deref().filter(|base| !base.is_empty()) else { return Ok(None) };
        let uri: Option<Uri> = address(base, config.protocol).parse().ok();
        let usable = |uri: &Uri| {
            let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            plain && uri.query().is_none() && matches!(uri.scheme_str(), Some("http" | "https"))
        };
        let uri = uri.filter(usable).ok_or_else(|| {
            let message = "is not http://HOST:PORT or https://HOST[/PATH], without user, password and query; a key goes \
                           into the variable that llm.api_key_env names";
            Error::invalid("llm.endpoint", message)
        })?;
        if config.model.is_empty() {
            return Err(Error::invalid("llm.model", "is empty; name a model of the endpoint"));
        }
        let temperature = Some(config.temperature).filter(|temperature| *temperature >= 0.0);
        Ok(Some(Self { uri, protocol: config.protocol, model: config.model.clone(), temperature }))
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether what is sent can be read on the way.
    pub(super) fn is_encrypted(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Returns the body of a request.
    pub(super) fn body(&self, prompt: &Prompt) -> String {
        let messages = json!([
            {"role": "system", "content": prompt.instructions},
            {"role": "user", "content": prompt.data},
        ]);
        let mut body = json!({"model": self.model, "messages": messages, "stream": false});
        match self.protocol {
            Protocol::Openai => {
                let schema = json!({"name": "ranking", "strict": true, "schema": prompt.schema()});
                body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
                if let Some(temperature) = self.temperature {
                    body["temperature"] = json!(temperature);
                }
            }
            Protocol::Ollama => {
                body["format"] = prompt.schema();
                if let Some(temperature) = self.temperature {
                    body["options"] = json!({"temperature": temperature});
                }
            }
        }
        body.to_string()
    }

    /// Returns the model's words in a response; `None` when there are none.
    pub(super) fn content(&self, response: &[u8]) -> Option<String> {
        let response: Value = serde_json::from_slice(response).ok()?;
        let message = match self.protocol {
            Protocol::Openai => &response["choices"][0]["message"],
            Protocol::Ollama => &response["message"],
        };
        message["content"].as_str().map(str::to_owned)
    }
}

/// Returns the address to post to. People give a server, the API's root below it, or the whole address.
fn address(base: &str, protocol: Protocol) -> String {
    let base = base.trim_end_matches('/');
    match protocol {
        _ if base.ends_with("/chat/completions") || base.ends_with("/api/chat") => base.to_owned(),
        Protocol::Openai => format!("{}/v1/chat/completions", base.strip_suffix("/v1").unwrap_or(base)),
        Protocol::Ollama => format!("{}/api/chat", base.strip_suffix("/api").unwrap_or(base)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str) -> Result<Option<Endpoint>> {
        Endpoint::new(&Config { endpoint: Some(base.to_owned()), model: "m".to_owned(), ..Config::default() })
    }

    #[test]
    fn an_address_is_completed_as_far_as_it_goes() {
        for (base, protocol, expected) in [
            ("http://localhost:8000", Protocol::Openai, "http://localhost:8000/v1/chat/completions"),
            ("https://api.example.com/v1/", Protocol::Openai, "https://api.example.com/v1/chat/completions"),
            (
                "https://x.example/openai/chat/completions",
                Protocol::Openai,
                "https://x.example/openai/chat/completions",
            ),
            ("http://localhost:11434/", Protocol::Ollama, "http://localhost:11434/api/chat"),
            ("http://localhost:11434/api", Protocol::Ollama, "http://localhost:11434/api/chat"),
        ] {
            assert_eq!(address(base, protocol), expected);
        }
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_not_repeated() {
        for base in
            ["https://user:secret@example.com", "ftp://example.com", "example.com", "http://x/?key=secret", "::"]
        {
            let message = endpoint(base).unwrap_err().to_string();
            assert!(message.contains("llm.api_key_env") && !message.contains("secret"), "{message}");
        }
        assert!(endpoint("").unwrap().is_none());
    }

    #[test]
    fn only_this_machine_is_local() {
        for (base, local) in [
            ("http://localhost:1", true),
            ("http://127.0.0.1:1", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1:1", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(endpoint(base).unwrap().unwrap().is_local(), local, "{base}");
        }
    }
}
