use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::TARGETS;

/// `None` where the source does not come with the folder, as in the published crate.
fn folder() -> Option<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    folder.exists().then_some(folder)
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_there_is_no_other() {
    let Some(folder) = folder() else { return };
    let known = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&folder.join("fuzz_targets")), known);
    assert_eq!(names(&folder.join("corpus")), known);
}

#[test]
fn what_fuzzing_has_found_worth_keeping_holds_every_promise() {
    let Some(folder) = folder() else { return };
    for (name, target) in TARGETS {
        let mut inputs = 0;
        for entry in fs::read_dir(folder.join("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let caught = std::panic::catch_unwind(|| target(&input));
            assert!(caught.is_ok(), "see above: {}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}
