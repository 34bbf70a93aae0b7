//! `delete`: what a server leaves that has died with its tasks.
//!
//! containerd kills it after five seconds and does not come again. So the machine is killed
//! first, and what takes time is done by a process of its own, `clear`, which goes on
//! whatever becomes of this one.

use crate::error::ShimError;
use crate::events::stamp;
use crate::oci::{self, Kind, Note};
use crate::options::Options;
use crate::root;
use crate::task::Exit;
use beluga_proto::PodUid;
use beluga_runtime::engine::{self, EngineError, StopRequest, sandbox};
use beluga_runtime::host::process;
use beluga_runtime::settings::Settings;
use beluga_runtime::store;
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// As if SIGKILL had ended it, which is what its server has died of, or has sent.
const KILLED: u32 = 137;

/// What the program is told that clears a pod.
pub const CLEAR: &str = "clear";

/// How long it is waited for: well below containerd's patience.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(10);

/// Ends what the task still has and tells containerd how that was.
pub fn delete(options: &Options) -> Result<(), ShimError> {
    let bundle = match options.bundle.as_str() {
        "" => std::env::current_dir().map_err(ShimError::system("find the bundle"))?,
        path => PathBuf::from(path),
    };
    let settings = Settings::new(None, None)?;
    // A bundle that cannot be read is no container of a pod that lives on.
    let kind = oci::read(&bundle).map_or(Kind::Alone, |spec| oci::kind(&spec));
    let until = Instant::now() + PATIENCE;
    for uid in pods(&settings, &kind, options)? {
        if !matches!(kind, Kind::Member { .. }) {
            kill_machine(&settings, &uid)?;
        }
        let clearing = begin_to_clear(&uid, &kind, options)?;
        root::unmount(&bundle)?;
        wait(clearing, until)?;
    }
    root::unmount(&bundle)?;
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: MessageField::some(stamp(Exit::now(KILLED).at)),
        ..DeleteResponse::default()
    };
    let bytes = response.write_to_bytes().unwrap_or_default();
    let mut stdout = std::io::stdout();
    let told = stdout.write_all(&bytes).and_then(|()| stdout.flush());
    told.map_err(ShimError::system("answer"))
}

/// The pods of the task. Others that have lost their supervisors as well get no new ones
/// here: that takes time, and each has a `delete` of its own.
fn pods(settings: &Settings, kind: &Kind, options: &Options) -> Result<Vec<PodUid>, ShimError> {
    let task = match kind {
        Kind::Member { sandbox } => sandbox,
        Kind::Sandbox | Kind::Alone => &options.id,
    };
    let mut found = Vec::new();
    for uid in store::uids(settings).map_err(EngineError::from)? {
        // One that cannot be read is nobody's.
        let Ok(Some(definition)) = store::read_definition(settings, &uid) else {
            continue;
        };
        let note = definition.spec.sandbox.as_ref().map(|one| &one.note);
        let note = note.and_then(|note| serde_json::from_str::<Note>(note).ok());
        let is_it = note.is_some_and(|note| {
            note.task == *task
                && note.namespace == options.namespace
                && note.containerd == options.address
        });
        if is_it {
            found.push(uid);
        }
    }
    Ok(found)
}

fn kill_machine(settings: &Settings, uid: &PodUid) -> Result<(), ShimError> {
    let record = store::read_record(settings, uid).map_err(EngineError::from)?;
    let machine = record.and_then(|record| record.vmm).and_then(process::open);
    let killed = machine.map_or(Ok(()), |machine| process::kill(&machine));
    killed.map_err(ShimError::system("kill the machine"))
}

fn begin_to_clear(uid: &PodUid, kind: &Kind, options: &Options) -> Result<Child, ShimError> {
    let program = std::env::current_exe().map_err(ShimError::system("find this program"))?;
    let mut command = Command::new(program);
    command.args(["-id", uid.as_str()]);
    if let Kind::Member { .. } = kind {
        command.args(["-container", &oci::container_name(&options.id)]);
    }
    // Nothing of containerd's: it reads our output to its end.
    let started = command
        .arg(CLEAR)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    started.map_err(ShimError::system("begin to clear"))
}

/// Waits for it, if not for long: it goes on by itself.
fn wait(mut clearing: Child, until: Instant) -> Result<(), ShimError> {
    let status = loop {
        let ended = clearing.try_wait().map_err(ShimError::system("wait"))?;
        match ended {
            Some(status) => break status,
            None if Instant::now() > until => return Ok(()),
            None => std::thread::sleep(PAUSE),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut why = String::new();
    if let Some(mut stderr) = clearing.stderr.take() {
        let _ = stderr.read_to_string(&mut why);
    }
    Err(ShimError::State {
        message: format!("cannot clear: {}", why.trim()),
    })
}

/// Takes a pod away, or a container of one.
pub fn clear(options: &Options) -> Result<(), ShimError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ShimError::system("start"))?;
    let settings = Settings::new(None, None)?;
    let uid = PodUid::parse(&options.id).map_err(|error| ShimError::Invalid {
        field: "id",
        why: error.to_string(),
    })?;
    let cleared = async {
        match options.container.as_str() {
            "" => {
                let request = StopRequest {
                    grace: Some(0),
                    delete: true,
                };
                engine::stop(&settings, &uid, request).await
            }
            name => sandbox::remove(&settings, &uid, name).await,
        }
    };
    Ok(runtime.block_on(cleared)?)
}
