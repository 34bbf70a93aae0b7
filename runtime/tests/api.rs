//! What goes over a supervisor's socket, as bytes: a new command line talks to an
//! old supervisor. `BLESS=1` writes them anew; proto's EVOLUTION.md says when
//! that is allowed.

use beluga_proto::agent::{PodStats, ProcessExit};
use beluga_proto::container::TerminalSize;
use beluga_proto::copy::CopySpec;
use beluga_proto::{Fault, FaultCode};
use beluga_runtime::api::{
    ApiMessage, ApiRequest, AttachRequest, ChangeRequest, ContainerAct, ExecRequest, StopRequest,
};
use beluga_runtime::plan::ContainerKind;
use beluga_runtime::store::status::{ContainerState, ContainerStatus, PodStatus};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::path::Path;

const SIZE: TerminalSize = TerminalSize { rows: 24, cols: 80 };

fn container(act: ContainerAct) -> ApiRequest {
    let name = "web".into();
    ApiRequest::Container { name, act }
}

fn execs() -> [ExecRequest; 2] {
    let exec = ExecRequest {
        container: Some("web".into()),
        args: vec!["ls".into(), "-l".into()],
        env: vec!["A=b".into()],
        user: None,
        workdir: None,
        tty: Some(SIZE),
        stdin: true,
        copy: Some(CopySpec {
            path: "/srv".into(),
            name: None,
        }),
    };
    let as_another = ExecRequest {
        user: Some("app:staff".into()),
        workdir: Some("/srv".into()),
        ..ExecRequest::default()
    };
    [exec, as_another]
}

/// One of each; a match without a rest tells of one that is missing here.
fn requests() -> Vec<ApiRequest> {
    let [exec, as_another] = execs();
    let all = vec![
        ApiRequest::Watch,
        ApiRequest::Stop(StopRequest {
            grace: Some(5),
            delete: true,
        }),
        ApiRequest::Stats,
        ApiRequest::Refresh,
        ApiRequest::Change(ChangeRequest {
            proposal: "proposal-2".into(),
            restart: ["web".to_owned()].into(),
            patience_seconds: 60,
        }),
        ApiRequest::Exec(exec),
        ApiRequest::Exec(as_another),
        ApiRequest::Connect { port: 8080 },
        ApiRequest::Attach(AttachRequest {
            container: None,
            stdin: true,
            quiet: false,
        }),
        ApiRequest::Resize { size: SIZE },
        ApiRequest::Signal {
            signal: 15,
            all: false,
        },
        ApiRequest::Signal {
            signal: 9,
            all: true,
        },
        container(ContainerAct::Start),
        container(ContainerAct::Stop { grace_seconds: 30 }),
        container(ContainerAct::Remove),
        container(ContainerAct::ReopenLog),
        container(ContainerAct::Freeze),
        container(ContainerAct::Thaw),
    ];
    for one in &all {
        match one {
            ApiRequest::Watch
            | ApiRequest::Stop(_)
            | ApiRequest::Stats
            | ApiRequest::Refresh
            | ApiRequest::Change(_)
            | ApiRequest::Exec(_)
            | ApiRequest::Connect { .. }
            | ApiRequest::Container { .. }
            | ApiRequest::Attach(_)
            | ApiRequest::Resize { .. }
            | ApiRequest::Signal { .. } => {}
        }
    }
    all
}

fn messages() -> Vec<ApiMessage> {
    let container = ContainerStatus {
        name: "web".into(),
        kind: ContainerKind::App,
        image: "nginx".into(),
        image_id: "sha256:00".into(),
        id: None,
        state: ContainerState::Running { started: 2 },
        last_termination: None,
        restarts: 1,
        started: true,
        ready: false,
        resources: None,
        resizing: None,
        is_gone: false,
    };
    let status = PodStatus {
        created: 1,
        containers: vec![container],
        ..PodStatus::default()
    };
    let exit = ProcessExit {
        code: 137,
        signal: Some(9),
        oom_killed: true,
        unix_nanos: 3,
    };
    let all = vec![
        ApiMessage::Status(Box::new(status)),
        ApiMessage::Done,
        ApiMessage::Stats(Box::<PodStats>::default()),
        ApiMessage::Failed(Fault::new(FaultCode::NotFound, "no container \"x\"")),
        ApiMessage::Streams {
            stdin: true,
            stdout: true,
            stderr: false,
        },
        ApiMessage::Exited { exit },
    ];
    for one in &all {
        match one {
            ApiMessage::Status(_)
            | ApiMessage::Done
            | ApiMessage::Stats(_)
            | ApiMessage::Failed(_)
            | ApiMessage::Streams { .. }
            | ApiMessage::Exited { .. } => {}
        }
    }
    all
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, all: &[T]) {
    let lines = all
        .iter()
        .map(|one| serde_json::to_string(one).expect("JSON"));
    let text: String = lines.map(|line| line + "\n").collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/api/{name}.jsonl"));
    if std::env::var_os("BLESS").is_some() {
        let place = path.parent().expect("a directory");
        std::fs::create_dir_all(place).expect("a directory");
        std::fs::write(&path, &text).expect("written");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file; BLESS=1 writes it");
    assert_eq!(text, golden, "the bytes changed; read EVOLUTION.md");
    let back = golden.lines().map(|line| serde_json::from_str(line));
    let back: Vec<T> = back.collect::<Result<_, _>>().expect("they decode");
    assert_eq!(back, all);
}

#[test]
fn what_commands_ask_and_supervisors_answer_keeps_its_bytes() {
    check("requests", &requests());
    check("messages", &messages());
}
