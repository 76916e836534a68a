//! Which files a path names, and what is missing from it.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn folder_with(files: &[&str]) -> (tempfile::TempDir, Naming) {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "text").unwrap();
    }
    let naming = Naming::new(Some(folder.path())).unwrap();
    (folder, naming)
}

fn find(naming: &Naming, paths: &[&str]) -> Discovered {
    find_knowing(naming, paths, &[])
}

fn find_knowing(naming: &Naming, paths: &[&str], stored: &[&str]) -> Discovered {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    discover(&paths, naming, stored.iter().copied())
}

fn sources(discovered: &Discovered) -> Vec<&str> {
    discovered.files.iter().map(|file| file.source.as_str()).collect()
}

#[test]
fn a_folder_gives_its_documents_by_name() {
    let (_folder, naming) = folder_with(&["b.md", "a/x.MD", "a/y.txt", "c.mdx", "d.jsonl", "e.png", "f"]);
    let discovered = find(&naming, &["."]);
    assert_eq!(sources(&discovered), ["a/x.MD", "a/y.txt", "b.md", "c.mdx", "d.jsonl"]);
    assert_eq!(discovered.files[4].format, Format::Lines);
    assert!(discovered.failures.is_empty());
}

#[test]
fn hidden_and_ignored_files_are_skipped() {
    let (folder, naming) = folder_with(&[".hidden/a.md", ".b.md", "target/c.md", "d.md"]);
    fs::write(folder.path().join(".gitignore"), "target/\n").unwrap();
    assert_eq!(sources(&find(&naming, &["."])), ["d.md"]);
}

#[test]
fn overlapping_paths_give_each_file_once() {
    let (folder, naming) = folder_with(&["a/b.md", "a/c.md"]);
    let absolute = folder.path().join("a/b.md");
    let discovered = find(&naming, &["a", "a/../a/b.md", "a/*.md", absolute.to_str().unwrap()]);
    assert_eq!(sources(&discovered), ["a/b.md", "a/c.md"]);
}

#[test]
fn what_is_outside_the_base_is_called_by_its_whole_path() {
    let (folder, _) = folder_with(&["in/a.md", "out.md"]);
    let naming = Naming::new(Some(&folder.path().join("in"))).unwrap();
    let out = folder.path().join("out.md");
    assert_eq!(sources(&find(&naming, &[".", "../out.md"])), ["a.md", out.to_str().unwrap()]);
}

#[test]
fn a_file_named_itself_may_have_any_extension() {
    let (_folder, naming) = folder_with(&["notes.rst"]);
    assert_eq!(sources(&find(&naming, &["notes.rst"])), ["notes.rst"]);
}

#[test]
fn globs_match_across_folders_where_they_say_so() {
    let (_folder, naming) = folder_with(&["docs/a.md", "docs/b/c.md", "docs/b/d.txt", "e.md"]);
    assert_eq!(sources(&find(&naming, &["docs/**/*.md"])), ["docs/a.md", "docs/b/c.md"]);
    assert_eq!(sources(&find(&naming, &["docs/*.md"])), ["docs/a.md"]);
    assert_eq!(sources(&find(&naming, &["docs/**/*.{md,txt}"])), ["docs/a.md", "docs/b/c.md", "docs/b/d.txt"]);
}

#[test]
fn what_cannot_be_found_is_a_failure() {
    let (_folder, naming) = folder_with(&["a.md"]);
    for (path, reason) in
        [("none.md", "does not exist"), ("*.txt", "matches no"), ("none/*.md", "no folder"), ("[z-a].md", "not a glob")]
    {
        let discovered = find(&naming, &[path]);
        assert_eq!(discovered.failures.len(), 1, "{path}");
        assert_eq!(discovered.failures[0].source, path);
        assert!(discovered.failures[0].reason.contains(reason), "{}", discovered.failures[0].reason);
    }
}

#[test]
fn a_loop_of_links_is_a_failure_and_the_rest_goes_on() {
    let (folder, naming) = folder_with(&["a/b.md"]);
    symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    symlink("nowhere", folder.path().join("a/dangling.md")).unwrap();
    let discovered = find(&naming, &["."]);
    assert_eq!(sources(&discovered), ["a/b.md"]);
    let failed: Vec<&str> = discovered.failures.iter().map(|failure| failure.source.as_str()).collect();
    assert_eq!(failed, ["a/dangling.md", "a/loop"]);
}

#[test]
fn a_folder_speaks_for_what_was_under_it() {
    let (_folder, naming) = folder_with(&["a/b.md", "a/d.jsonl"]);
    let discovered = find(&naming, &["a"]);
    for (source, gone) in [
        ("a/gone.md", true),
        ("a/gone.jsonl#42", true),
        ("a/b.md", false),
        ("a/d.jsonl#42", false),
        ("other/gone.md", false),
        ("ab.md", false),
        ("a/by-a-client", false),
        ("https://example.org/a/b.md", false),
    ] {
        assert_eq!(discovered.lacks(&naming, source), gone, "{source}");
    }
}

#[test]
fn a_glob_speaks_for_what_matches_it() {
    let (_folder, naming) = folder_with(&["a/b.md"]);
    let discovered = find(&naming, &["a/*.md"]);
    assert!(discovered.lacks(&naming, "a/gone.md"));
    assert!(!discovered.lacks(&naming, "a/gone.txt"));
    assert!(!discovered.lacks(&naming, "a/b/gone.md"));
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    let (folder, naming) = folder_with(&["a/b.md"]);
    symlink(folder.path(), folder.path().join("a/loop")).unwrap();
    let discovered = find(&naming, &["."]);
    assert!(!discovered.lacks(&naming, "a/loop/c.md"));
    assert!(discovered.lacks(&naming, "a/c.md"));
}

#[test]
fn a_stored_file_that_is_gone_is_no_failure() {
    let (_folder, naming) = folder_with(&[]);
    let discovered = find_knowing(&naming, &["a.md", "b.jsonl"], &["a.md", "b.jsonl#1", "c.md"]);
    assert!(discovered.failures.is_empty());
    assert!(discovered.lacks(&naming, "a.md") && discovered.lacks(&naming, "b.jsonl#1"));
    assert!(!discovered.lacks(&naming, "c.md"));
}

#[test]
fn a_missing_folder_deletes_nothing() {
    let (_folder, naming) = folder_with(&[]);
    let discovered = find_knowing(&naming, &["a"], &["a/b.md"]);
    assert_eq!(discovered.failures.len(), 1);
    assert!(!discovered.lacks(&naming, "a/b.md"));
}
