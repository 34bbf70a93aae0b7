//! The command line's words and habits, where no pod has to run for them.

use beluga_tests::{Beluga, SOON, run};

const OBJECTS: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: web}}
data: {colour: blue, conf: \"a=1\\nb=2\\n\"}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {pass: hidden}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
";

fn with_objects() -> Beluga {
    let beluga = Beluga::fresh();
    beluga.feed(["apply", "-f", "-"], OBJECTS.as_bytes()).ok();
    beluga
}

#[test]
fn several_types_are_listed_at_once_each_in_its_table() {
    let beluga = with_objects();
    let both = beluga.run(["get", "cm,secret,deployments"]).ok();
    let lines: Vec<&str> = both.out.lines().collect();
    assert!(lines[0].starts_with("NAME                 DATA"), "{both}");
    assert!(lines[1].starts_with("configmap/settings   2"), "{both}");
    assert_eq!((lines[2], lines.len()), ("", 5), "{both}");
    let names = beluga.run(["get", "secret/login", "cm/settings", "-o", "name"]);
    assert_eq!(names.ok().out, "secret/login\nconfigmap/settings\n");
    let one = beluga.run(["get", "cm", "-l", "app=web", "-o", "name"]);
    assert_eq!(one.ok().out, "configmap/settings\n");
    let labels = beluga.run(["get", "cm", "--show-labels"]).ok();
    drop(labels.says("LABELS").says("app=web"));
    let path = "jsonpath={range .items[*]}{.metadata.name} {.data.colour}{\"\\n\"}{end}";
    assert_eq!(
        beluga.run(["get", "cm", "-o", path]).ok().out,
        "settings blue\n"
    );
    let columns = "custom-columns=WHAT:.metadata.name,APP:.metadata.labels.app";
    let shown = beluga.run(["get", "cm,secret", "-o", columns]).ok().out;
    assert_eq!(shown, "WHAT       APP\nsettings   web\nlogin      <none>\n");
    let wrong = beluga.run(["get", "cm", "-o", "jsonpath={.items"]).exits(2);
    drop(wrong.complains("unclosed action"));
    let list = beluga.run(["get", "cm,secret", "-o", "json"]).ok();
    let list: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    beluga
        .run(["get", "cm,services"])
        .exits(1)
        .complains("\"services\"");
}

#[test]
fn every_type_that_can_be_listed_can_be_described() {
    let beluga = with_objects();
    let page = beluga.run(["describe", "cm", "settings"]).ok();
    page.says("app=web")
        .says("colour:          blue")
        .says("    b=2");
    let page = beluga.run(["describe", "secret/login"]).ok();
    let page = page.says("Opaque").says("pass:            6 bytes");
    assert!(!page.out.contains("hidden"), "{page}");
    let page = beluga.run(["describe", "pvc", "data"]).ok();
    page.says("Capacity:          16Mi")
        .says("Used By:           <none>");
    let none = beluga.run(["describe", "cm,secret", "settings"]).exits(1);
    none.says("settings")
        .complains("secret \"settings\" not found");
    let empty = beluga.run(["describe", "pods"]).ok();
    empty.complains("No resources found in default namespace.");
}

#[test]
fn delete_names_all_that_are_missing_and_deletes_the_others() {
    let beluga = with_objects();
    let ran = beluga.run(["delete", "cm", "a", "settings", "b"]).exits(1);
    assert_eq!(ran.out, "configmap \"settings\" deleted\n");
    ran.complains("configmap \"a\" not found")
        .complains("configmap \"b\" not found");
    let ran = beluga
        .run(["delete", "pod/a", "job/b", "secret/login"])
        .exits(1);
    assert_eq!(ran.out, "secret \"login\" deleted\n");
    ran.complains("pod \"a\" not found")
        .complains("job.batch \"b\" not found");
    let ran = beluga
        .run(["delete", "pod", "a", "--ignore-not-found"])
        .ok();
    assert_eq!(ran.err, "");
    for line in [&["delete", "pod", "--all"], &["delete", "cm", "-lx=y"]] {
        assert_eq!(beluga.run(line).ok().out, "No resources found\n");
    }
    beluga
        .run(["rm", "a", "b"])
        .exits(1)
        .complains("pod \"b\" not found");
    beluga
        .run(["delete", "pods"])
        .exits(2)
        .complains("which pods?");
}

#[test]
fn flags_of_run_are_refused_as_flags() {
    let beluga = Beluga::fresh();
    let ran = beluga
        .run(["run", "-m", "1g", "--cpus", "1,5", "busybox"])
        .exits(2);
    let ran = ran.complains("--memory: \"g\" in \"1g\" is not a unit");
    ran.complains("(did you mean 1Gi?)")
        .complains("--cpus: ")
        .complains("(did you mean 1.5?)");
    let ran = beluga
        .run(["run", "--name", "No", "busybox"])
        .exits(2)
        .complains("--name: ");
    assert!(!ran.err.contains("the command line:"), "{ran}");
}

/// What bash offers for the last of these words.
fn completed(beluga: &Beluga, words: &str) -> String {
    let line = format!(
        "source <(beluga completion bash); COMP_WORDS=(beluga {words}); \
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _beluga_names beluga \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\""
    );
    let mut command = std::process::Command::new("bash");
    command
        .args(["-c", &line])
        .env("BELUGA_ROOT", beluga.root())
        .env("BELUGA_STATE", beluga.state());
    run(&mut command, SOON).ok().text().to_owned()
}

#[test]
fn completion_offers_names_of_what_is_there() {
    let beluga = with_objects();
    assert_eq!(completed(&beluga, "describe cm ''"), "settings");
    assert_eq!(completed(&beluga, "delete secret/l"), "secret/login");
    // Where there are no names, what clap knows stands.
    assert_eq!(completed(&beluga, "get pvc -n other --no"), "--no-headers");
    assert_eq!(completed(&beluga, "describe --nam"), "--namespace");
    assert_eq!(completed(&beluga, "__"), "");
}
