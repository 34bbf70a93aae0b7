use super::*;

const SECOND: u64 = 1_000_000_000;

fn job(completions: Option<u32>, parallelism: u32) -> JobSpec {
    JobSpec {
        completions,
        parallelism,
        backoff_limit: 2,
        index_backoff_limit: None,
        max_failed_indexes: None,
        failure_rules: Vec::new(),
        success_rules: Vec::new(),
        waits_for_end: false,
        is_indexed: false,
        deadline_seconds: None,
        ttl_seconds: None,
        is_suspended: false,
        replaces_pods: true,
    }
}

fn uid(at: u8) -> PodUid {
    PodUid::from_random([at; 16])
}

fn active(count: u8) -> Vec<Active> {
    let one = |at| Active {
        uid: uid(at),
        restarts: 0,
        index: None,
        is_leaving: false,
    };
    (0..count).map(one).collect()
}

/// `s` succeeded, `f` failed, a second apart.
fn state(ends: &str) -> JobState {
    let one = |(at, c): (u8, char)| {
        let end = PodEnd {
            succeeded: c == 's',
            at: u64::from(at) * SECOND,
            index: None,
            verdict: Verdict::Counts,
        };
        (uid(100 + at), end)
    };
    JobState {
        started: Some(0),
        ended: (0u8..).zip(ends.chars()).map(one).collect(),
        ..JobState::default()
    }
}

fn next(job: &JobSpec, ends: &str, count: u8, seconds: u64) -> String {
    let backoff = Backoff::default();
    let step = step(
        job,
        &state(ends),
        &active(count),
        (seconds * SECOND, &backoff),
    );
    match step {
        JobStep::Start(which) => format!("start {}", which.len()),
        JobStep::Delete(which) => format!("delete {}", which.len()),
        JobStep::End(end) => end.reason,
        JobStep::Await(None) => "await".into(),
        JobStep::Await(Some(time)) => format!("await {}", time.as_secs()),
    }
}

#[test]
fn a_job_runs_until_enough_have_succeeded() {
    let three = job(Some(3), 2);
    assert_eq!(next(&three, "", 0, 0), "start 2");
    assert_eq!(next(&three, "", 2, 0), "await");
    assert_eq!(next(&three, "s", 1, 0), "start 1");
    assert_eq!(next(&three, "ss", 1, 0), "await");
    assert_eq!(next(&three, "sss", 0, 0), "CompletionsReached");
    assert_eq!(next(&three, "ss", 2, 0), "delete 1");
    let queue = job(None, 2);
    assert_eq!(next(&queue, "", 0, 0), "start 2");
    assert_eq!(next(&queue, "s", 1, 0), "await");
    assert_eq!(next(&queue, "ss", 0, 0), "CompletionsReached");
}

#[test]
fn failures_are_waited_after_and_counted() {
    let one = job(Some(1), 1);
    // 10 s after the first, 20 s after the second, which was at 1 s.
    assert_eq!(next(&one, "f", 0, 3), "await 7");
    assert_eq!(next(&one, "f", 0, 10), "start 1");
    assert_eq!(next(&one, "ff", 0, 11), "await 10");
    assert_eq!(next(&one, "fff", 0, 11), "BackoffLimitExceeded");
    assert_eq!(next(&job(Some(2), 1), "fs", 0, 1), "start 1");
}

#[test]
fn restarts_count_where_pods_are_not_replaced() {
    let in_place = JobSpec {
        replaces_pods: false,
        ..job(Some(1), 1)
    };
    let mut pods = active(1);
    let backoff = Backoff::default();
    let mut told = |restarts| {
        pods[0].restarts = restarts;
        step(&in_place, &state(""), &pods, (0, &backoff))
    };
    assert_eq!(told(1), JobStep::Await(None));
    assert!(matches!(told(2), JobStep::End(end) if end.reason == "BackoffLimitExceeded"));
}

#[test]
fn a_job_has_a_deadline_and_may_be_suspended() {
    let short = JobSpec {
        deadline_seconds: Some(60),
        ..job(Some(1), 1)
    };
    assert_eq!(next(&short, "", 1, 10), "await 50");
    assert_eq!(next(&short, "", 1, 60), "DeadlineExceeded");
    let suspended = JobSpec {
        is_suspended: true,
        ..short
    };
    assert_eq!(next(&suspended, "", 1, 90), "delete 1");
    assert_eq!(next(&suspended, "", 0, 90), "await");
}

#[test]
fn each_index_is_done_once() {
    let indexed = JobSpec {
        is_indexed: true,
        ..job(Some(4), 3)
    };
    let mut state = state("sf");
    for (end, index) in state.ended.values_mut().zip([1, 2]) {
        end.index = Some(index);
    }
    let mut running = active(1);
    running[0].index = Some(0);
    let backoff = Backoff::default();
    let step = step(&indexed, &state, &running, (60 * SECOND, &backoff));
    assert_eq!(step, JobStep::Start(vec![Some(2), Some(3)]));
}

/// Of an indexed job: `0s 1f 2i 3x` are index 0 that succeeded, and failures of
/// others that count, are ignored, or are final; all a second apart.
fn by_index(ends: &str) -> JobState {
    let one = |(at, text): (u8, &str)| {
        let (index, how) = text.split_at(text.len() - 1);
        let end = PodEnd {
            succeeded: how == "s",
            at: u64::from(at) * SECOND,
            index: index.parse().ok(),
            verdict: match how {
                "i" => Verdict::Ignored,
                "x" => Verdict::FailsIndex,
                _ => Verdict::Counts,
            },
        };
        (uid(100 + at), end)
    };
    JobState {
        started: Some(0),
        ended: (0u8..).zip(ends.split_whitespace()).map(one).collect(),
        ..JobState::default()
    }
}

fn per_index() -> JobSpec {
    JobSpec {
        is_indexed: true,
        backoff_limit: u32::MAX,
        index_backoff_limit: Some(1),
        ..job(Some(4), 2)
    }
}

fn told(job: &JobSpec, ends: &str, active: &[Active], seconds: u64) -> String {
    let now = (seconds * SECOND, &Backoff::default());
    match step(job, &by_index(ends), active, now) {
        JobStep::Start(which) => {
            let which: Vec<u32> = which.into_iter().flatten().collect();
            format!("start {which:?}")
        }
        JobStep::End(end) => format!("{}: {}", end.reason, end.message),
        JobStep::Delete(which) => format!("delete {}", which.len()),
        JobStep::Await(time) => format!("await {:?}", time.map(|time| time.as_secs())),
    }
}

#[test]
fn each_index_fails_and_waits_for_itself() {
    let job = per_index();
    assert_eq!(told(&job, "", &[], 0), "start [0, 1]");
    // 0 waits for 10 s, the others do not.
    assert_eq!(told(&job, "0f", &[], 1), "start [1, 2]");
    assert_eq!(told(&job, "0f", &[], 10), "start [0, 1]");
    assert_eq!(told(&job, "0f 1s 2s 3s", &[], 4), "await Some(6)");
    // A second failure is one too many; a rule may let it pass, or need but one.
    assert_eq!(told(&job, "0f 0f", &[], 60), "start [1, 2]");
    assert_eq!(told(&job, "0f 0i", &[], 60), "start [0, 1]");
    assert_eq!(told(&job, "0x", &[], 60), "start [1, 2]");
    let end = "FailedIndexes: Job has failed indexes";
    assert_eq!(told(&job, "0x 1s 2s 3s", &[], 60), end);
    let end = "CompletionsReached: Reached expected number of succeeded pods";
    assert_eq!(told(&job, "0f 0s 1s 2s 3s", &[], 60), end);
    let strict = JobSpec {
        max_failed_indexes: Some(1),
        ..job
    };
    assert_eq!(told(&strict, "0x 1s", &[], 60), "start [2, 3]");
    let end = told(&strict, "0x 1x", &[], 60);
    assert!(end.starts_with("MaxFailedIndexesExceeded: "), "{end}");
}

#[test]
fn failed_indexes_are_told_with_what_is_behind_them() {
    let state = by_index("0f 0i 0f 1f 2x 3i");
    assert_eq!(state.failed(), 4);
    assert_eq!(state.failed_indexes(&per_index()), BTreeSet::from([0, 2]));
    let failures = state.index_failures(&per_index());
    assert_eq!((failures[&0].counted, failures[&0].ignored), (2, 1));
    assert!(state.failed_indexes(&job(Some(4), 2)).is_empty());
}

#[test]
fn ignored_failures_do_not_count_but_are_waited_after() {
    let one = JobSpec {
        is_indexed: true,
        ..job(Some(1), 1)
    };
    assert_eq!(told(&one, "0i 0i 0i 0i", &[], 3), "await Some(80)");
    assert_eq!(told(&one, "0i 0i 0i 0i", &[], 90), "start [0]");
    let end = told(&one, "0f 0f 0f", &[], 3);
    assert!(end.starts_with("BackoffLimitExceeded: "), "{end}");
    let mut state = by_index("0f");
    state.failed_by_rule = Some("that is why".into());
    let step = step(&one, &state, &[], (SECOND, &Backoff::default()));
    assert!(matches!(step, JobStep::End(end) if end.reason == "PodFailurePolicy" && !end.complete));
}

#[test]
fn a_job_is_complete_by_its_rules_of_success() {
    let job = JobSpec {
        success_rules: vec![
            SuccessRule {
                indexes: Some(vec![(0, 0), (2, 3)]),
                count: None,
            },
            SuccessRule {
                indexes: Some(vec![(0, 1)]),
                count: Some(1),
            },
            SuccessRule {
                indexes: None,
                count: Some(3),
            },
        ],
        is_indexed: true,
        ..job(Some(9), 2)
    };
    for (ends, end) in [
        ("2s 3s", "start [0, 1]"),
        ("2s 3s 3s", "start [0, 1]"),
        ("1s", "SuccessPolicy: Matched rules at index 1"),
        ("2s 3s 0s", "SuccessPolicy: Matched rules at index 0"),
        ("4s 5s 6s", "SuccessPolicy: Matched rules at index 2"),
    ] {
        assert_eq!(told(&job, ends, &[], 60), end, "{ends}");
    }
}

/// Under TerminatingOrFailed the deletion has been counted as the failure that it is
/// to the job controller (a pod with a deletionTimestamp has failed, whatever its exit
/// code will be), so that the pod after it is one more try: it waits as after any other
/// failure, and where the index has no try left there is none. Otherwise two pods of
/// one index could end it in two ways. Under Failed nothing counts before its end.
#[test]
fn a_pod_on_its_way_out_has_failed_or_is_waited_for() {
    let mut pods = active(1);
    pods[0].index = Some(0);
    pods[0].is_leaving = true;
    assert_eq!(told(&per_index(), "0f", &pods, 1), "start [1, 2]");
    assert_eq!(told(&per_index(), "0f", &pods, 10), "start [0, 1]");
    let strict = JobSpec {
        index_backoff_limit: Some(0),
        ..per_index()
    };
    assert_eq!(told(&strict, "0f", &pods, 60), "start [1, 2]");
    let end = told(&strict, "0f 1s 2s 3s", &pods, 60);
    assert_eq!(end, "FailedIndexes: Job has failed indexes");
    let waits = JobSpec {
        waits_for_end: true,
        ..per_index()
    };
    assert_eq!(told(&waits, "", &pods, 0), "start [1]");
    let one = JobSpec {
        parallelism: 1,
        ..waits
    };
    assert_eq!(told(&one, "", &pods, 0), "await None");
}

#[test]
fn counts_of_an_older_version_are_read() {
    let text = r#"{"started": 1, "finished": null, "end": null, "ended":
        {"00000000-0000-4000-8000-000000000001": {"succeeded": false, "at": 5, "index": 2}}}"#;
    let state: JobState = serde_json::from_str(text).unwrap();
    assert_eq!((state.failed(), state.failed_by_rule), (1, None));
}
