//! Variables that are read from files when their container starts.
//!
//! The format is that of Kubernetes, a subset of a POSIX shell's: lines
//! `NAME='value'`, blanks around `=` and before the name, comment lines and empty
//! ones; a value is what stands between the quotes, line ends and all.
//! (kubernetes.io: "Define Environment Variable Values Using An Init Container".)

use crate::spawn::{Boundary, PathError, existing};
use beluga_proto::container::ContainerSpec;
use beluga_proto::probe::Handler;
use beluga_proto::variable::{FileVariable, fill, fill_lines};
use beluga_proto::{ExecSpec, Fault, FaultCode};
use rustix::fs::{FileType, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;

/// Largest file that is read, in bytes: more than an environment can hold is no
/// list of variables.
const MAX_FILE: u64 = 64 << 10;

/// Why there is no value for a variable.
#[derive(Debug, thiserror::Error)]
enum VariableError {
    #[error("there is no such file")]
    NoFile,
    #[error("it is no regular file")]
    NoRegularFile,
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    #[error("it is not UTF-8")]
    NotText,
    #[error("line {line}: {what}")]
    Line { line: usize, what: &'static str },
    #[error("it has no variable {key:?}")]
    NoKey { key: String },
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("cannot read it")]
    Read(#[from] io::Error),
}

/// The values that a container's files had when it started.
#[derive(Debug, Clone, Default)]
pub struct Values {
    variables: Vec<FileVariable>,
    values: Vec<Option<String>>,
}

impl Values {
    /// Reads them; `volumes` has the directory of each volume.
    pub fn read(
        variables: &[FileVariable],
        volumes: &BTreeMap<String, String>,
    ) -> Result<Self, Fault> {
        let values = variables.iter().map(|one| {
            let root = volumes.get(&one.volume).ok_or_else(|| {
                let message = format!("there is no volume {:?}", one.volume);
                Fault::new(FaultCode::NotFound, message)
            })?;
            match value(root, one) {
                Ok(value) => Ok(Some(value)),
                Err(VariableError::NoFile | VariableError::NoKey { .. }) if one.optional => {
                    Ok(None)
                }
                Err(error) => {
                    let cause = Fault::from_error(FaultCode::InvalidArgument, &error).message;
                    let (name, path, volume) = (&one.name, &one.path, &one.volume);
                    let message =
                        format!("variable {name:?} from {path:?} in volume {volume:?}: {cause}");
                    Err(Fault::new(FaultCode::InvalidArgument, message))
                }
            }
        });
        Ok(Self {
            values: values.collect::<Result<_, _>>()?,
            variables: variables.to_vec(),
        })
    }

    /// Puts them into a container that is about to start.
    pub fn put_into(&self, spec: &mut ContainerSpec) {
        self.put_into_process(&mut spec.process);
        for probe in &mut spec.probes {
            if let Handler::Exec { command } = &mut probe.handler {
                self.fill(command);
            }
        }
    }

    /// Puts them into a process of the container.
    pub fn put_into_process(&self, process: &mut ExecSpec) {
        if self.variables.is_empty() {
            return;
        }
        self.fill(&mut process.args);
        process.env = fill_lines(&process.env, &self.variables, &self.values);
    }

    fn fill(&self, words: &mut [String]) {
        for word in words {
            *word = fill(word, &self.variables, &self.values);
        }
    }
}

fn value(root: &str, variable: &FileVariable) -> Result<String, VariableError> {
    let text = text(root, &variable.path)?;
    let found = parse(&text)?
        .into_iter()
        .find(|(key, _)| *key == variable.key);
    match found {
        Some((_, value)) => Ok(value.to_owned()),
        None => Err(VariableError::NoKey {
            key: variable.key.clone(),
        }),
    }
}

/// What a file says. Its volume is the containers': what is there may be a link
/// out of it, a pipe that blocks who opens it, or a device.
fn text(root: &str, path: &str) -> Result<String, VariableError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, rustix::fs::Mode::empty()).map_err(io::Error::from)?;
    let found = existing(&root, path, OFlags::PATH, Boundary::Fence)?;
    let found = found.ok_or(VariableError::NoFile)?;
    let stat = rustix::fs::fstat(&found).map_err(io::Error::from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(VariableError::NoRegularFile);
    }
    let mut bytes = Vec::new();
    let again = format!("/proc/self/fd/{}", found.as_raw_fd());
    // A lease that somebody has on it would hold up who opens it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(again, flags, rustix::fs::Mode::empty()).map_err(io::Error::from)?;
    File::from(file)
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(VariableError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| VariableError::NotText)
}

/// The variables of a file, in its order; the first of a name counts.
fn parse(text: &str) -> Result<Vec<(&str, &str)>, VariableError> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        // Counted where something is wrong only: a file has many lines.
        let wrong = |what| VariableError::Line {
            line: 1 + text[..at].matches('\n').count(),
            what,
        };
        let (this, _) = rest.split_once('\n').unwrap_or((rest, ""));
        let begin = this.trim_start_matches(BLANK);
        if begin.trim_end().is_empty() || begin.starts_with('#') {
            rest = rest.get(this.len() + 1..).unwrap_or_default();
            continue;
        }
        let (key, _) = this.split_once('=').ok_or_else(|| wrong("it has no '='"))?;
        let value = rest[key.len() + 1..].trim_start_matches(BLANK);
        let key = key.trim_matches(BLANK);
        if key.is_empty() || key.contains(['\'', '"', ' ', '\t', '\0']) {
            return Err(wrong("there is no name of a variable before '='"));
        }
        let value = value
            .strip_prefix('\'')
            .ok_or_else(|| wrong("its value does not stand in single quotes"))?;
        let (value, after) = value
            .split_once('\'')
            .ok_or_else(|| wrong("the quote that begins its value has no end"))?;
        if value.contains('\0') {
            return Err(wrong("its value contains a NUL character"));
        }
        let (end, next) = after.split_once('\n').unwrap_or((after, ""));
        if !end.trim().is_empty() {
            return Err(wrong("something stands behind the quotes of its value"));
        }
        found.push((key, value));
        rest = next;
    }
    Ok(found)
}

const BLANK: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_kubernetes_reads_it() {
        let text =
            "# comment\n\n  A='address'\nB = 'a # b\\n \"x\"'  \n\t\nMULTI='line1\nline2'\nE=''";
        let found = parse(text).unwrap();
        let expected = [
            ("A", "address"),
            ("B", "a # b\\n \"x\""),
            ("MULTI", "line1\nline2"),
            ("E", ""),
        ];
        assert_eq!(found, expected);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("A='x'\r\n").unwrap(), [("A", "x")]);
    }

    #[test]
    fn what_is_no_variable_is_told_with_its_line() {
        for (text, line, what) in [
            ("A=x", 1, "its value does not stand in single quotes"),
            (
                "A='1'\n\nB=\"x\"\n",
                3,
                "its value does not stand in single quotes",
            ),
            (
                "A='1''2'",
                1,
                "something stands behind the quotes of its value",
            ),
            (
                "A='1\n2'\nB='x'$C",
                3,
                "something stands behind the quotes of its value",
            ),
            ("A='1", 1, "the quote that begins its value has no end"),
            ("='1'", 1, "there is no name of a variable before '='"),
            (
                "export A='1'",
                1,
                "there is no name of a variable before '='",
            ),
            ("A", 1, "it has no '='"),
            ("A='\0'", 1, "its value contains a NUL character"),
        ] {
            let told = parse(text).unwrap_err().to_string();
            assert_eq!(told, format!("line {line}: {what}"), "{text:?}");
        }
    }

    #[test]
    fn only_a_file_of_the_volume_is_read() {
        let volume = std::env::temp_dir().join(format!("beluga-variables-{}", std::process::id()));
        std::fs::create_dir(&volume).unwrap();
        let at = |name: &str| volume.join(name);
        std::fs::write(at("good"), "A='1'\n").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", at("out")).unwrap();
        std::os::unix::fs::symlink("good", at("inside")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe"),
            FileType::Fifo,
            rustix::fs::Mode::from(0o600),
            0,
        )
        .unwrap();
        std::fs::write(at("large"), vec![b'#'; MAX_FILE as usize + 1]).unwrap();
        std::fs::write(at("binary"), [0xff]).unwrap();
        let volumes = BTreeMap::from([("v".to_owned(), volume.to_string_lossy().into_owned())]);
        let read = |path: &str, key: &str, optional: bool| {
            let variable = FileVariable {
                name: "X".into(),
                volume: "v".into(),
                path: path.into(),
                key: key.into(),
                optional,
            };
            let values = Values::read(&[variable], &volumes);
            values
                .map(|values| values.values[0].clone())
                .map_err(|fault| fault.message)
        };
        let one = Ok(Some("1".to_owned()));
        assert_eq!(read("good", "A", false), one);
        assert_eq!(read("inside", "A", false), one);
        assert_eq!(read("good", "B", true), Ok(None));
        assert_eq!(read("none", "A", true), Ok(None));
        for (path, why) in [
            ("good", "it has no variable \"B\""),
            ("none", "there is no such file"),
            ("out", "\"out\" leads out of its volume"),
            ("pipe", "it is no regular file"),
            ("large", "it is larger than 65536 bytes"),
            ("binary", "it is not UTF-8"),
        ] {
            let told = read(path, "B", false).unwrap_err();
            let expected = format!("variable \"X\" from {path:?} in volume \"v\": {why}");
            assert_eq!(told, expected);
        }
        std::fs::remove_dir_all(&volume).unwrap();
    }
}
