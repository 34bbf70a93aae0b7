//! What the command says and does where no pod has to run for it: words in kubectl's and
//! podman's order, and errors that a newcomer can act on.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside of what clippy takes for one"
)]

mod host;
mod words;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// An instance with directories of its own.
struct Instance {
    directory: PathBuf,
}

impl Instance {
    fn new(name: &str) -> Self {
        let name = format!("beluga-cli-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_beluga"));
        command
            .args(words)
            .current_dir(&self.directory)
            .env("BELUGA_ROOT", "root")
            .env("BELUGA_STATE", "state")
            .stdin(Stdio::null());
        command
    }

    /// Exit code, standard output and standard error.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        said(&self.command(words).output().unwrap())
    }

    /// Errors with this code, and says all of this.
    fn refuses(&self, words: &[&str], code: i32, parts: &[&str]) {
        let (ended, out, err) = self.run(words);
        assert_eq!(ended, code, "{words:?}: {out}{err}");
        for part in parts {
            assert!(err.contains(part), "{words:?}: {part:?} is not in {err}");
        }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn said(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
