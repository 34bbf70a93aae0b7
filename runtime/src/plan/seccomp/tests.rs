use super::assemble::{
    ALWAYS, AND, ARCHITECTURE, ARGUMENTS, IF_AT_LEAST, IF_EQUAL, IF_GREATER, LOAD, NUMBER, RETURN,
};
use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The kernel's interpreter in small.
fn judge(program: &[Instruction], architecture: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => architecture,
        offset => {
            let value = args[((offset - ARGUMENTS) / 8) as usize];
            (value >> (8 * ((offset - ARGUMENTS) % 8))) as u32
        }
    };
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let now = program[at];
        at += 1;
        let holds = match now.code {
            LOAD => {
                accumulator = word(now.k);
                continue;
            }
            AND => {
                accumulator &= now.k;
                continue;
            }
            ALWAYS => {
                at += now.k as usize;
                continue;
            }
            RETURN => return now.k,
            IF_EQUAL => accumulator == now.k,
            IF_GREATER => accumulator > now.k,
            IF_AT_LEAST => accumulator >= now.k,
            code => panic!("no such instruction: {code:#x}"),
        };
        at += usize::from(if holds { now.jt } else { now.jf });
    }
}

/// What the filter of a profile says of a call on x86-64.
fn says(text: &str, number: i64, args: [u64; 6]) -> u32 {
    let program = program(text, &["CAP_CHOWN".to_owned()]).unwrap();
    judge(&program, X86_64, number as u32, args)
}

#[test]
fn what_is_listed_is_allowed_and_what_is_newer_does_not_exist() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["read", "write", "openat2", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null}]}"#;
    let says = |number| says(profile, number, [0; 6]);
    assert_eq!([says(libc::SYS_read), says(libc::SYS_write)], [ALLOW; 2]);
    assert_eq!([says(libc::SYS_open), says(libc::SYS_mount)], [EPERM; 2]);
    assert_eq!(says(libc::SYS_openat2), ALLOW);
    assert_eq!(says(libc::SYS_openat2 + 1), ENOSYS);
    let program = program(profile, &[]).unwrap();
    let kill = libc::SECCOMP_RET_KILL_PROCESS;
    assert_eq!(judge(&program, X86_64, X32 + 1, [0; 6]), kill);
    assert_eq!(judge(&program, I386, 3, [0; 6]), ALLOW);
    assert_eq!(judge(&program, I386, 0, [0; 6]), EPERM);
    assert_eq!(judge(&program, 0xc000_00b7, 0, [0; 6]), kill);
}

#[test]
fn what_is_denied_alone_is_denied_alone() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        {"names": ["mkdirat"], "action": "SCMP_ACT_KILL"}]}"#;
    let says = |number| says(profile, number, [0; 6]);
    assert_eq!(says(libc::SYS_mkdir), libc::SECCOMP_RET_ERRNO | 13);
    assert_eq!(says(libc::SYS_mkdirat), libc::SECCOMP_RET_KILL_THREAD);
    assert_eq!([says(0), says(600)], [ALLOW; 2]);
    // Only its own architecture is named.
    let program = program(profile, &[]).unwrap();
    assert_eq!(
        judge(&program, I386, 3, [0; 6]),
        libc::SECCOMP_RET_KILL_PROCESS
    );
}

#[test]
fn every_comparison_is_made_on_64_bits() {
    let big = 0x1_0000_0005_u64;
    for (operator, allowed) in [
        ("EQ", [false, true, false]),
        ("NE", [true, false, true]),
        ("LT", [true, false, false]),
        ("LE", [true, true, false]),
        ("GT", [false, false, true]),
        ("GE", [false, true, true]),
    ] {
        let profile = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["socket"], "action": "SCMP_ACT_ALLOW",
               "args": [{{"index": 2, "value": {big}, "op": "SCMP_CMP_{operator}"}}]}}]}}"#
        );
        for (values, allowed) in [(big - 1, big, big + 1), (5, big, big << 1)]
            .map(|(below, equal, above)| ([below, equal, above], allowed))
        {
            let seen = values
                .map(|value| says(&profile, libc::SYS_socket, [7, 7, value, 7, 7, 7]) == ALLOW);
            assert_eq!(seen, allowed, "{operator} {values:x?}");
        }
    }
}

#[test]
fn conditions_of_one_rule_hold_together_or_each_for_itself() {
    let rule = |args: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
               {{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
        )
    };
    let no_namespaces =
        r#"{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}"#;
    let second = r#"{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}"#;
    let both = rule(&format!("{no_namespaces},{second}"));
    let clone = |profile: &str, args: [u64; 2]| {
        says(profile, libc::SYS_clone, [args[0], args[1], 0, 0, 0, 0]) == ALLOW
    };
    assert!(clone(&both, [0x11, 1]));
    assert!(!clone(&both, [0x11, 2]) && !clone(&both, [0x1000_0011, 1]));
    let either = rule(&format!(
        "{second},{}",
        second.replace("1, \"op", "9, \"op")
    ));
    assert!(clone(&either, [0, 1]) && clone(&either, [0, 9]) && !clone(&either, [0, 2]));
}

#[test]
fn rules_may_stand_for_capabilities_and_kernels_only() {
    let profile = |condition: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{{"architecture": "SCMP_ARCH_X86_64",
               "subArchitectures": ["SCMP_ARCH_X86"]}}], "syscalls": [
               {{"names": ["mount"], "action": "SCMP_ACT_ALLOW", {condition}}}]}}"#
        )
    };
    let mounts = |condition| says(&profile(condition), libc::SYS_mount, [0; 6]) == ALLOW;
    assert!(mounts(r#""includes": {"caps": ["CAP_CHOWN"]}"#));
    assert!(!mounts(r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#));
    assert!(!mounts(r#""excludes": {"caps": ["CAP_CHOWN"]}"#));
    assert!(mounts(r#""includes": {"minKernel": "4.8"}"#));
    assert!(!mounts(r#""includes": {"minKernel": "7.0"}"#));
    assert!(!mounts(r#""includes": {"arches": ["s390x"]}"#));
}

#[test]
fn what_is_no_profile_says_why() {
    let why = |text| compile(text, &[]).unwrap_err().to_string();
    assert!(why("{}").starts_with("it is no seccomp profile: missing field `defaultAction`"));
    assert!(why(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#).contains("SCMP_ACT_NOTIFY"));
    assert_eq!(
        why(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#),
        "the flag \"X\" is not supported"
    );
    let argument = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
        "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;
    assert!(why(argument).contains("argument 6"));
}

#[test]
fn names_agree_with_the_c_library() {
    let known = numbers(0);
    for (name, number) in [
        ("read", libc::SYS_read),
        ("statx", libc::SYS_statx),
        ("openat2", libc::SYS_openat2),
        ("fchmodat2", libc::SYS_fchmodat2),
        ("mseal", libc::SYS_mseal),
    ] {
        assert_eq!(
            known.get(name).map(|at| i64::from(*at)),
            Some(number),
            "{name}"
        );
    }
    assert!(known.len() > 350 && numbers(1).len() > 400);
}
