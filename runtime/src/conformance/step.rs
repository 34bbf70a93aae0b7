//! One step of a check: done, looked at, told when it is not as it must be.

use super::instance::{Instance, Ran};
use super::{Exits, Step};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Longest that something may take that happens eventually.
const SOON: Duration = Duration::from_secs(120);

/// Between two looks at it.
const PACE: Duration = Duration::from_millis(200);

/// Longest that who is called may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

/// How much of what was seen is told, in characters.
const TOLD: usize = 1000;

/// What earlier steps have kept, by name.
pub(super) type Saved = BTreeMap<String, String>;

/// The text with what was saved in the place of its names.
pub(super) fn fill(text: &str, saved: &Saved) -> String {
    saved.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

impl Step {
    /// Does it, and again where it may take its time. Errors with what was seen.
    pub(super) async fn check(&self, instance: &Instance, saved: &mut Saved) -> Result<(), String> {
        let end = Instant::now() + SOON;
        loop {
            let ran = self.act(instance, saved).await;
            match self.judge(&ran, saved) {
                Ok(()) => {
                    if let Some(name) = &self.save {
                        saved.insert(name.clone(), ran.out.trim_end().to_owned());
                    }
                    return Ok(());
                }
                Err(_) if self.eventually && Instant::now() < end => sleep(PACE).await,
                Err(why) => return Err(self.told(&ran, &why, saved)),
            }
        }
    }

    async fn act(&self, instance: &Instance, saved: &Saved) -> Ran {
        if let Some(line) = &self.host {
            return Instance::run(instance.shell(&fill(line, saved))).await;
        }
        if let Some(address) = &self.dial {
            return dial(&fill(address, saved)).await;
        }
        if let (Some(pod), Some(pointer)) = (&self.of, &self.field) {
            let ran = Instance::run(instance.beluga(&["get", "pod", pod, "-o", "json"])).await;
            return field(ran, pointer);
        }
        let place = self.inside.as_deref().unwrap_or_default();
        let (pod, container) = place.split_once('/').unwrap_or((place, ""));
        let line = fill(self.run.as_deref().unwrap_or_default(), saved);
        let words = ["exec", "-c", container, pod, "--", "sh", "-c", &line];
        Instance::run(instance.beluga(&words)).await
    }

    /// Errors with the expectation that is not met.
    fn judge(&self, ran: &Ran, saved: &Saved) -> Result<(), String> {
        let seen = ran.out.trim_end();
        let all = format!("{}{}", ran.out, ran.err);
        if let Exits::Code(code) = self.exits
            && code != ran.code
        {
            return Err(format!("exit code {code}"));
        }
        let is = self.is.as_ref().map(|text| fill(text, saved));
        if let Some(text) = is.filter(|text| text.trim_end() != seen) {
            return Err(format!("{:?}", text.trim_end()));
        }
        let isnt = self.isnt.as_ref().map(|text| fill(text, saved));
        if isnt.is_some_and(|text| text == seen) {
            return Err(format!("anything but {seen:?}"));
        }
        let fill = |text: &String| fill(text, saved);
        if let Some(text) = self.has.iter().map(fill).find(|text| !all.contains(text)) {
            return Err(format!("something with {text:?}"));
        }
        match self.lacks.iter().map(fill).find(|text| all.contains(text)) {
            Some(text) => Err(format!("nothing with {text:?}")),
            None => Ok(()),
        }
    }

    /// What was done, wanted and seen.
    fn told(&self, ran: &Ran, why: &str, saved: &Saved) -> String {
        let what = match (&self.host, &self.dial, &self.of, &self.inside) {
            (Some(line), ..) => fill(line, saved),
            (_, Some(address), ..) => format!("call {}", fill(address, saved)),
            (_, _, Some(pod), _) => format!("{} of {pod}", self.field.as_deref().unwrap_or("")),
            (.., place) => format!(
                "in {}: {}",
                place.as_deref().unwrap_or(""),
                fill(self.run.as_deref().unwrap_or(""), saved)
            ),
        };
        let seen = format!("{}{}", ran.out, ran.err);
        let seen: String = seen.trim_end().chars().take(TOLD).collect();
        format!(
            "{}\nwanted: {why}\nseen: exit code {}, {:?}",
            what.trim_end(),
            ran.code,
            seen
        )
    }
}

/// What an address answers, until it hangs up.
async fn dial(address: &str) -> Ran {
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    match timeout(ANSWER, answer).await {
        Ok(Ok(out)) => Ran {
            out,
            ..Ran::default()
        },
        Ok(Err(error)) => Ran {
            code: 1,
            err: error.to_string(),
            ..Ran::default()
        },
        Err(_) => Ran {
            code: 124,
            err: "no answer".to_owned(),
            ..Ran::default()
        },
    }
}

/// One field of an object in the place of all of it.
fn field(ran: Ran, pointer: &str) -> Ran {
    let object: Value = serde_json::from_str(&ran.out).unwrap_or_default();
    let out = match object.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    Ran { out, ..ran }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(code: i32, out: &str) -> Ran {
        Ran {
            code,
            out: out.to_owned(),
            err: "told\n".to_owned(),
        }
    }

    #[test]
    fn what_is_seen_is_held_against_what_is_wanted() {
        let saved = Saved::from([("ip".to_owned(), "10.0.0.2".to_owned())]);
        let step = Step {
            is: Some("at {{ip}}\n".to_owned()),
            has: vec!["told".to_owned()],
            ..Step::default()
        };
        assert_eq!(step.judge(&ran(0, "at 10.0.0.2\n"), &saved), Ok(()));
        assert_eq!(
            step.judge(&ran(1, "at 10.0.0.2"), &saved),
            Err("exit code 0".to_owned())
        );
        assert_eq!(
            step.judge(&ran(0, "elsewhere"), &saved),
            Err("\"at 10.0.0.2\"".to_owned())
        );
        let step = Step {
            isnt: Some("{{ip}}".to_owned()),
            lacks: vec!["told".to_owned()],
            ..Step::default()
        };
        assert!(step.judge(&ran(0, "10.0.0.2"), &saved).is_err());
        assert_eq!(
            step.judge(&ran(0, "10.0.0.3"), &saved),
            Err("nothing with \"told\"".to_owned())
        );
    }

    #[test]
    fn a_field_is_text_and_what_is_not_there_is_empty() {
        let object = r#"{"a": [{"b": 3, "c": "x"}], "d": null}"#;
        let at = |pointer| field(ran(0, object), pointer).out;
        assert_eq!(
            [at("/a/0/b"), at("/a/0/c"), at("/d"), at("/e")],
            ["3", "x", "", ""]
        );
    }
}
