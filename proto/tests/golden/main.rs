//! The bytes of every message, held against files. `BLESS=1` writes them anew;
//! EVOLUTION.md says when that is allowed.

mod agent;
mod copy;
mod machine;
mod samples;
mod tls;

use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::path::Path;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/v1/{name}.json"));
    let bytes = serde_json::to_string(message).expect("serialises") + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &bytes).expect("golden file is writable");
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run with BLESS=1", path.display()));
    assert_eq!(
        bytes, golden,
        "{name}: the bytes changed; read EVOLUTION.md"
    );
    let back: T = serde_json::from_str(&golden).expect("golden bytes decode");
    assert_eq!(&back, message, "{name}: decodes to something else");
}
