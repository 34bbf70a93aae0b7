//! Why a process cannot be.

use super::*;

#[test]
fn commands_that_cannot_run_say_why() {
    let Some(place) = fixture("commands") else {
        return;
    };
    let fault = |command: &str| {
        let mut process = shell("");
        process.args = vec![command.to_owned()];
        place.fault(&place.plan(process))
    };
    for (command, code) in [
        ("nonesuch", FaultCode::CommandNotFound),
        ("/bin/nonesuch", FaultCode::CommandNotFound),
        ("orphan", FaultCode::CommandNotFound),
        ("/bin/orphan", FaultCode::CommandNotFound),
        ("data", FaultCode::CommandNotExecutable),
        ("/bin/data", FaultCode::CommandNotExecutable),
        ("/bin", FaultCode::CommandNotExecutable),
        ("", FaultCode::InvalidArgument),
    ] {
        let (found, message) = fault(command);
        assert_eq!(found, code, "{command}: {message}");
    }
}

#[test]
fn working_directories_that_cannot_be_say_why() {
    let Some(place) = fixture("directories") else {
        return;
    };
    for (cwd, read_only) in [
        ("/bin/data", false),
        ("relative", false),
        ("/made/in/vain", true),
    ] {
        let mut process = shell("true");
        process.cwd = cwd.to_owned();
        let mut plan = place.plan(process);
        if read_only {
            // A volume that may not be written to.
            root(&mut plan).mounts.push(volume("/made", None, true));
        }
        let (code, message) = place.fault(&plan);
        assert_eq!(code, FaultCode::BadWorkingDirectory, "{cwd}: {message}");
        assert!(message.contains(cwd), "{message}");
    }
}

#[test]
fn users_that_cannot_be_say_why() {
    let Some(place) = fixture("users") else {
        return;
    };
    let mut process = shell("true");
    process.user.image_user = "ghost".to_owned();
    assert_eq!(place.fault(&place.plan(process)).0, FaultCode::UserNotFound);
    let mut process = shell("true");
    process.user.refuse_root = true;
    let (code, message) = place.fault(&place.plan(process));
    assert_eq!(code, FaultCode::RunsAsRoot);
    assert!(message.contains("runAsNonRoot"), "{message}");
}

#[test]
fn a_passwd_file_that_is_a_fifo_does_not_stall() {
    let Some(place) = fixture("fifo") else { return };
    let passwd = format!("{BASE}/image/etc/passwd");
    fs::remove_file(&passwd).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, &passwd, kind, Mode::from(0o644), 0).unwrap();
    assert_eq!(
        place.fault(&place.plan(shell("true"))).0,
        FaultCode::InvalidArgument
    );
}
