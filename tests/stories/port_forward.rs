//! `beluga port-forward`: over vsock, to what listens on the pod's loopback.

use beluga_tests::{Pod, SOON, eventually, kill, shared};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Stdio};

/// The pod has no card: nothing here goes over a network.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: forwarded, annotations: {beluga/network: none}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    ports: [{name: web, containerPort: 8000}]
    readinessProbe: {exec: {command: [sh, -c, 'netstat -ltn | grep -q :9000']}, periodSeconds: 1}
    command:
    - sh
    - -c
    - |
      mkdir /www; echo page > /www/index.html; head -c 4000000 /dev/zero > /www/big
      httpd -p 127.0.0.1:8000 -h /www; httpd -p [::1]:8001 -h /www
      exec nc -ll -p 9000 -e sort
";

/// A running `port-forward`, and the ports here that it told of.
struct Forward {
    child: Child,
    ports: Vec<u16>,
}

impl Forward {
    fn new(pod: &Pod<'_>, pairs: &[&str]) -> Self {
        let target = format!("pod/{}", pod.name());
        let words = ["port-forward", &target];
        let mut command = shared().command(words.iter().chain(pairs));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("beluga runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // 127.0.0.1 and ::1 for each.
        let told: Vec<String> = lines.map_while(Result::ok).take(2 * pairs.len()).collect();
        let local = |line: &String| line.split(" -> ").next()?.rsplit(':').next()?.parse().ok();
        let ports = told.iter().filter_map(local).collect();
        Self { child, ports }
    }

    fn connect(&self, at: usize) -> TcpStream {
        let address = ["127.0.0.1", "::1"][at % 2];
        let stream = TcpStream::connect((address, self.ports[at])).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("set");
        stream
    }

    /// Sends, ends its direction, and gives back all that comes.
    fn ask(&self, at: usize, question: &str) -> String {
        let mut stream = self.connect(at);
        stream.write_all(question.as_bytes()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("ended");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn port_forward_reaches_a_pod_without_a_network() {
    let pod = shared().pod(POD);
    assert_eq!(pod.sh("main", "ls /sys/class/net"), "lo");
    assert_eq!(pod.object().pointer("/status/podIP"), None);
    let forward = Forward::new(&pod, &[":web", ":8001", ":9000", ":9"]);
    it_leads_to_ports_by_name_and_by_number(&forward);
    it_serves_many_at_once(&forward);
    // Nobody listens there: that connection ends, the command does not.
    assert_eq!(forward.ask(6, ""), "");
    assert_eq!(forward.ask(5, "x\n"), "x\n");
    let [_, supervisor] = pod.processes();
    kill(&[supervisor]);
    assert_eq!(forward.ask(4, "y\n"), "y\n", "under the next supervisor");
    pod.delete();
    it_ends_and_says_why(forward);
}

fn it_leads_to_ports_by_name_and_by_number(forward: &Forward) {
    for at in 0..4 {
        let page = forward.ask(at, "GET / HTTP/1.0\r\n\r\n");
        assert!(page.ends_with("\r\n\r\npage\n"), "{at}: {page:?}");
    }
    let after = "an answer after the end of the question";
    assert_eq!(forward.ask(4, "b\na\n"), "a\nb\n", "{after}");
}

fn it_serves_many_at_once(forward: &Forward) {
    std::thread::scope(|scope| {
        for at in 0..32 {
            let path = ["/big", "/", "/", "/"][at % 4];
            let size = [4_000_000, 5, 5, 5][at % 4];
            scope.spawn(move || {
                let page = forward.ask(at % 2, &format!("GET {path} HTTP/1.0\r\n\r\n"));
                let body = page.split_once("\r\n\r\n").map(|(_, body)| body.len());
                assert_eq!(body, Some(size), "{path}");
            });
        }
    });
}

fn it_ends_and_says_why(mut forward: Forward) {
    let child = &mut forward.child;
    let status = eventually("port-forward ends", || child.try_wait().expect("waited"));
    let mut errors = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut errors).expect("text");
    assert_eq!(status.code(), Some(1), "{errors}");
    let refused = "-> 9: dial tcp 127.0.0.1:9: connect: connection refused";
    assert!(errors.contains(refused), "{errors}");
    assert!(errors.contains("lost connection to pod"), "{errors}");
}
