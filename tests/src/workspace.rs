//! The workspace as a whole: what cargo knows of it, and its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand};

/// Its folder.
///
/// # Panics
/// Never: the harness is a member of it.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the harness is in a folder of the workspace")
}

/// What cargo knows of the members of the workspace.
///
/// # Panics
/// If cargo does not tell.
#[must_use]
pub fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo knows the workspace")
}

/// Every file with this extension, its path relative to [`root`], with its text. What cargo has built and what is
/// hidden are left out.
///
/// # Panics
/// If one cannot be read, or is no text.
#[must_use]
pub fn texts(extension: &str) -> BTreeMap<PathBuf, String> {
    let mut texts = BTreeMap::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace can be read") {
            let path = entry.expect("its entries too").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|of| of == extension) {
                let file = path.strip_prefix(root()).expect("it is below the root").to_owned();
                texts.insert(file, std::fs::read_to_string(&path).expect("it is text"));
            }
        }
    }
    texts
}
