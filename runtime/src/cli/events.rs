//! `beluga get events`: what happened to pods, the oldest first.

use super::get::{Output, Show};
use super::pods::{self, Scope};
use super::table::Table;
use super::{CliError, exit, time, yaml};
use crate::engine::PodView;
use crate::settings::Settings;
use crate::store::status::{EventKind, PodEvent};
use serde_json::{Value, json};

/// Prints the events of all pods of a scope.
pub async fn run(settings: &Settings, scope: &Scope, show: &Show) -> Result<u8, CliError> {
    let no_headers = show.no_headers;
    let pods = pods::all(settings, scope).await?;
    let mut events: Vec<(&PodView, &PodEvent)> = pods
        .iter()
        .flat_map(|pod| pod.status.events.iter().map(move |event| (pod, event)))
        .collect();
    events.sort_by_key(|(_, event)| event.time);
    if let Some(by) = &show.sort_by {
        let list = list(&events);
        let order = by.order(list["items"].as_array().map_or(&[], Vec::as_slice))?;
        events = order.into_iter().map(|at| events[at]).collect();
    }
    match show.output.as_ref() {
        Some(Output::Json) => say!("{:#}", list(&events)),
        Some(Output::Yaml) => put!("{}", yaml(&list(&events))?),
        Some(Output::Name) => {
            for (pod, event) in &events {
                say!("event/{}", name(pod, event));
            }
        }
        Some(Output::Template(template)) => put!("{}", template.of(&list(&events))),
        Some(Output::Columns(columns)) => {
            let list = list(&events);
            let items = list["items"].as_array().into_iter().flatten();
            columns.print(items, no_headers);
        }
        Some(Output::Wide) | None if events.is_empty() => {
            tell!("No events found in {} namespace.", scope.namespace);
        }
        Some(Output::Wide) | None => table(&events, scope, no_headers),
    }
    Ok(exit::OK)
}

/// The word that Kubernetes has for a kind of event.
pub fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Normal => "Normal",
        EventKind::Warning => "Warning",
    }
}

/// How long ago an event was, and how often it came.
pub fn age(event: &PodEvent) -> String {
    let age = time::age(event.time);
    if event.count > 1 {
        format!("{age} (x{})", event.count)
    } else {
        age
    }
}

fn table(events: &[(&PodView, &PodEvent)], scope: &Scope, no_headers: bool) {
    let mut heads = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
    if scope.all_namespaces {
        heads.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&heads);
    for (pod, event) in events {
        let mut row = vec![
            age(event),
            word(event.kind).to_owned(),
            event.reason.clone(),
            format!("pod/{}", pod.name),
            event.message.clone(),
        ];
        if scope.all_namespaces {
            row.insert(0, pod.namespace.clone());
        }
        table.row(row);
    }
    for line in table.lines(0).iter().skip(usize::from(no_headers)) {
        say!("{line}");
    }
}

fn name(pod: &PodView, event: &PodEvent) -> String {
    format!("{}.{:x}", pod.name, event.time)
}

fn list(events: &[(&PodView, &PodEvent)]) -> Value {
    let items: Vec<Value> = events
        .iter()
        .map(|(pod, event)| {
            json!({
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name(pod, event), "namespace": pod.namespace},
                "involvedObject": {
                    "apiVersion": "v1", "kind": "Pod",
                    "name": pod.name, "namespace": pod.namespace, "uid": pod.uid,
                },
                "type": word(event.kind),
                "reason": event.reason,
                "message": event.message,
                "count": event.count,
                "lastTimestamp": time::rfc3339(event.time),
                "source": {"component": "beluga"},
            })
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}
