//! Events of tasks, told to containerd one after the other in the order in which
//! they were said.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{MessageDyn, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use containerd_shim_protos::ttrpc::context::Context;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// Names containerd's socket for events.
const ADDRESS: &str = "TTRPC_ADDRESS";

/// How often one event is tried, and how long is waited between: containerd may be
/// on its way up again.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);

/// Where events are said.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::UnboundedSender<Said>,
}

#[derive(Debug)]
enum Said {
    Event(Box<Envelope>),
    /// All before it have been told, or given up.
    Mark(tokio::sync::oneshot::Sender<()>),
}

impl Events {
    /// Begins to tell events; without containerd's address they go nowhere.
    pub fn begin(namespace: &str) -> Self {
        let (queue, said) = mpsc::unbounded_channel();
        let address = std::env::var(ADDRESS).unwrap_or_default();
        tokio::spawn(tell(address, namespace.to_owned(), said));
        Self { queue }
    }

    /// Says one; `topic` is containerd's name of its kind.
    pub fn say(&self, topic: &str, event: &dyn MessageDyn) {
        let envelope = Envelope {
            timestamp: MessageField::some(stamp(SystemTime::now())),
            topic: topic.to_owned(),
            event: MessageField::some(any(event)),
            ..Envelope::default()
        };
        let _ = self.queue.send(Said::Event(Box::new(envelope)));
    }

    /// Waits until all have been told.
    pub async fn told(&self) {
        let (mark, reached) = tokio::sync::oneshot::channel();
        let _ = self.queue.send(Said::Mark(mark));
        let _ = reached.await;
    }
}

async fn tell(address: String, namespace: String, mut said: mpsc::UnboundedReceiver<Said>) {
    let mut client = None;
    while let Some(one) = said.recv().await {
        let mut envelope = match one {
            Said::Event(envelope) if !address.is_empty() => envelope,
            Said::Event(_) => continue,
            Said::Mark(mark) => {
                let _ = mark.send(());
                continue;
            }
        };
        envelope.namespace.clone_from(&namespace);
        let request = ForwardRequest {
            envelope: MessageField::some(*envelope),
            ..ForwardRequest::default()
        };
        for _ in 0..ATTEMPTS {
            if forward(&address, &mut client, &request).await.is_some() {
                break;
            }
            client = None;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn forward(
    address: &str,
    client: &mut Option<EventsClient>,
    request: &ForwardRequest,
) -> Option<()> {
    if client.is_none() {
        let address = format!("unix://{}", address.trim_start_matches("unix://"));
        *client = Some(EventsClient::new(Client::connect(&address).await.ok()?));
    }
    let call = client.as_ref()?.forward(Context::default(), request);
    tokio::time::timeout(PATIENCE, call)
        .await
        .ok()?
        .ok()
        .map(drop)
}

/// A message as containerd has it in others.
pub fn any(message: &dyn MessageDyn) -> Any {
    Any {
        type_url: message.descriptor_dyn().full_name().to_owned(),
        value: message.write_to_bytes_dyn().unwrap_or_default(),
        ..Any::default()
    }
}

/// A time.
pub fn stamp(time: SystemTime) -> Timestamp {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Timestamp::default()
    }
}
