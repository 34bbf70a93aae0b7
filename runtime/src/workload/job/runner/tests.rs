use super::super::plan::JobEnd;
use super::*;
use crate::spec;
use crate::workload;

const JOB: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: sum}\nspec:\n  suspend: true\n  template: {spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}\n";

/// A root in which a suspended job is kept; and the job.
fn kept_job() -> (Settings, Kept) {
    let random: [u8; 8] = pod::random_bytes();
    let root = std::env::temp_dir().join(format!("beluga-jobs-{}", u64::from_le_bytes(random)));
    let settings = Settings::new(Some(root.clone()), Some(root.join("state"))).unwrap();
    let kept = keep(&settings);
    (settings, kept)
}

fn keep(settings: &Settings) -> Kept {
    let workload = spec::read("job.yaml", JOB).unwrap().workloads.remove(0);
    drop(lock(settings, "default", WorkloadKind::Job, "sum").unwrap());
    workload::apply(settings, &workload).unwrap().0
}

fn ended() -> JobState {
    JobState {
        started: Some(1),
        finished: Some(2),
        end: Some(JobEnd {
            complete: true,
            reason: "CompletionsReached".into(),
            message: String::new(),
        }),
        ..JobState::default()
    }
}

fn look(settings: &Settings, watched: &mut Watched) -> Turn {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let turn = turn(settings, ("default", "sum"), watched);
    LocalSet::new().block_on(&runtime, turn).unwrap()
}

#[test]
fn a_job_that_has_ended_needs_a_runner_until_its_pods_have() {
    let (settings, kept) = kept_job();
    let mut state = JobState {
        of: Some(kept.uid.clone()),
        ..ended()
    };
    assert!(needs_runner(&kept, &JobState::default()) && needs_runner(&kept, &state));
    write_state(&settings, "default", "sum", &state).unwrap();
    assert!(matches!(look(&settings, &mut Watched::new()), Turn::Over));
    state = read_state(&settings, "default", "sum", &kept.uid).unwrap();
    assert!(state.is_over && !needs_runner(&kept, &state));
    let mut mortal = kept;
    mortal.object["spec"]["ttlSecondsAfterFinished"] = serde_json::json!(9);
    assert!(needs_runner(&mortal, &state));
    std::fs::remove_dir_all(&settings.root).unwrap();
}

#[test]
fn a_job_inherits_nothing_of_an_earlier_one_of_its_name() {
    let (settings, earlier) = kept_job();
    let state = JobState {
        of: Some(earlier.uid.clone()),
        ..ended()
    };
    write_state(&settings, "default", "sum", &state).unwrap();
    // Whoever has deleted it was killed before what was counted was gone.
    delete(&settings, "default", WorkloadKind::Job, "sum").unwrap();
    let kept = keep(&settings);
    let read = read_state(&settings, "default", "sum", &kept.uid).unwrap();
    assert_eq!((read.end, read.ended.len()), (None, 0));
    let seen = super::super::count::Seen {
        of: earlier.uid,
        index: None,
        is_heard: true,
    };
    // Its runner has not noticed.
    let mut watched = Watched::from([(PodUid::from_random([7; 16]), seen)]);
    assert!(matches!(look(&settings, &mut watched), Turn::Wait(..)));
    let read = read_state(&settings, "default", "sum", &kept.uid).unwrap();
    assert_eq!((watched.len(), read.failed(), read.end), (0, 0, None));
    std::fs::remove_dir_all(&settings.root).unwrap();
}
