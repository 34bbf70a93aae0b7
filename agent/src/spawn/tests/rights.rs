//! What a process may do.

use super::*;

#[test]
fn a_user_of_the_image_has_its_groups_and_no_capabilities() {
    let Some(place) = fixture("user") else { return };
    let mut process = shell("id; echo $HOME; grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status");
    process.user.image_user = "app".to_owned();
    process.user.supplementary = vec![77];
    process.no_new_privileges = true;
    let output = place.run(&place.plan(process)).output;
    assert!(
        output.contains("uid=1000(app) gid=1000(app) groups=20(logs),77,1000(app)"),
        "{output}"
    );
    assert!(output.contains("/home/app"), "{output}");
    for (set, value) in [
        ("Inh", 0),
        ("Prm", 0),
        ("Eff", 0),
        ("Bnd", 0xa804_25fb_u64),
        ("Amb", 0),
    ] {
        assert!(
            output.contains(&format!("Cap{set}:\t{value:016x}")),
            "{set}: {output}"
        );
    }
    assert!(output.contains("NoNewPrivs:\t1"), "{output}");
    assert!(output.contains("Seccomp:\t2"), "{output}");
}

#[test]
fn root_has_the_listed_capabilities_and_no_others() {
    let Some(place) = fixture("root") else { return };
    let output = place
        .run(&place.plan(shell("grep Cap /proc/self/status")))
        .output;
    for (set, value) in [
        ("Inh", 0),
        ("Prm", 0xa804_25fb_u64),
        ("Eff", 0xa804_25fb),
        ("Amb", 0),
    ] {
        assert!(
            output.contains(&format!("Cap{set}:\t{value:016x}")),
            "{set}: {output}"
        );
    }
}

#[test]
fn a_user_can_open_its_standard_output_again() {
    let Some(place) = fixture("streams") else {
        return;
    };
    let mut process = shell("echo again > /dev/stdout; echo error > /dev/stderr; cat /dev/stdin");
    process.user.uid = Some(4242);
    let outcome = place.run(&place.plan(process));
    assert_eq!(
        (outcome.output.as_str(), outcome.code),
        ("again\nerror\n", 0)
    );
}

#[test]
fn the_filter_denies_what_it_should_in_a_real_process() {
    let Some(place) = fixture("filter") else {
        return;
    };
    let output = place
        .run(&place.plan(shell("unshare -U true; unshare -m true; echo end")))
        .output;
    assert_eq!(
        output.matches("Operation not permitted").count(),
        2,
        "{output}"
    );
    assert!(output.ends_with("end\n"), "{output}");
}

#[test]
fn limits_are_set() {
    let Some(place) = fixture("limits") else {
        return;
    };
    let mut process = shell("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj");
    process.oom_score_adj = 321;
    process.rlimits = vec![Rlimit {
        name: "nofile".into(),
        soft: 123,
        hard: 456,
    }];
    assert_eq!(place.run(&place.plan(process)).output, "123\n456\n321\n");
}

#[test]
fn the_agents_own_program_cannot_be_written() {
    let program = program_file().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(program));
    let error = fs::OpenOptions::new().write(true).open(path).unwrap_err();
    assert!(
        matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)),
        "{error}"
    );
}
