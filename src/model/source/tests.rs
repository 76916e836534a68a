//! Which files a setting names.

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

fn config_of(dir: &tempfile::TempDir) -> Config {
    Config { dir: Some(dir.path().to_path_buf()), ..Config::default() }
}

fn setup_error(config: &Config) -> String {
    match Source::find(config).unwrap_err() {
        error @ Error::Setup { .. } => error.to_string(),
        other => panic!("not a setup error: {other:?}"),
    }
}

#[test]
fn the_bundled_model_is_the_default() {
    let source = Source::find(&Config::default()).unwrap();
    assert_eq!((source.name.as_str(), source.pooling, source.tokens_max), ("all-minilm-l6-v2", Pooling::Mean, 256));
    assert!(source.onnx.ends_with("models/all-minilm-l6-v2/model_int8.onnx") && source.reference().is_some());
    assert_eq!((source.query_prefix.as_str(), source.passage_prefix.as_str()), ("", ""));
}

#[test]
fn a_folder_says_how_its_model_is_used() {
    let dir = folder(&[
        ("onnx/model.onnx", ""),
        ("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true}"#),
        ("sentence_bert_config.json", r#"{"max_seq_length": 128}"#),
        ("config_sentence_transformers.json", r#"{"prompts": {"query": "ask: ", "document": "tell: "}}"#),
    ]);
    let source = Source::find(&config_of(&dir)).unwrap();
    assert_eq!(source.name, dir.path().file_name().unwrap().to_str().unwrap());
    assert_eq!((source.pooling, source.tokens_max), (Pooling::Cls, 128));
    assert_eq!((source.query_prefix.as_str(), source.passage_prefix.as_str()), ("ask: ", "tell: "));
}

#[test]
fn the_configuration_overrides_the_folder() {
    let dir = folder(&[("model.onnx", ""), ("sentence_bert_config.json", r#"{"max_seq_length": 128}"#)]);
    let config = Config {
        name: "bge-small-en-v1.5".to_owned(),
        query_prefix: Some(String::new()),
        pooling: Some(Pooling::LastToken),
        tokens_max: Some(64),
        ..config_of(&dir)
    };
    let source = Source::find(&config).unwrap();
    assert_eq!((source.name.as_str(), source.query_prefix.as_str()), ("bge-small-en-v1.5", ""));
    assert_eq!((source.pooling, source.tokens_max), (Pooling::LastToken, 64));
}

#[test]
fn a_window_beyond_the_models_positions_is_refused() {
    let dir = folder(&[("model.onnx", ""), ("config.json", r#"{"max_position_embeddings": 512}"#)]);
    for tokens_max in [1, 513] {
        let config = Config { tokens_max: Some(tokens_max), ..config_of(&dir) };
        assert!(matches!(Source::find(&config), Err(Error::Invalid { .. })), "{tokens_max} was taken");
    }
}

#[test]
fn a_folder_without_one_clear_model_says_what_to_do() {
    assert!(setup_error(&config_of(&folder(&[]))).contains("no ONNX model"));
    let two = folder(&[("a.onnx", ""), ("b.onnx", "")]);
    assert!(setup_error(&config_of(&two)).contains("rename the one to use to model.onnx"));
    let missing = Config { dir: Some(PathBuf::from("/nowhere/model")), ..Config::default() };
    assert!(setup_error(&missing).contains("/nowhere/model"));
}

#[test]
fn an_unknown_name_says_what_there_is() {
    for name in ["no-such-model", "../etc", ".", ""] {
        let message = setup_error(&Config { name: name.to_owned(), ..Config::default() });
        assert!(message.contains("bge-small-en-v1.5"), "{message}");
    }
}

#[test]
fn a_named_model_is_found_in_the_hub_cache() {
    let cache = folder(&[("models--Xenova--bge-small-en-v1.5/refs/main", "abc123\n")]);
    let config = Config {
        name: "bge-small-en-v1.5".to_owned(),
        hub_cache: Some(cache.path().to_path_buf()),
        ..Config::default()
    };
    let message = setup_error(&config);
    assert!(message.contains("model.download") && message.contains("Xenova/bge-small-en-v1.5"), "{message}");

    let snapshot = cache.path().join("models--Xenova--bge-small-en-v1.5/snapshots/abc123");
    std::fs::create_dir_all(snapshot.join("onnx")).unwrap();
    for file in ["onnx/model.onnx", "tokenizer.json", "config.json", "tokenizer_config.json"] {
        std::fs::write(snapshot.join(file), "{}").unwrap();
    }
    let source = Source::find(&config).unwrap();
    assert_eq!((source.onnx, source.pooling), (snapshot.join("onnx/model.onnx"), Pooling::Cls));
    assert_eq!(source.query_prefix, "Represent this sentence for searching relevant passages: ");
}
