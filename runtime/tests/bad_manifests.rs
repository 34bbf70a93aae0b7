//! What is wrong with a manifest is told with line, column and field path,
//! all of it at once, and in words that do not change by accident.

use beluga_runtime::spec;

/// Manifest, and every line of what is said about it.
const CASES: &[(&str, &[&str])] = &[
    // Keys.
    (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  restartPolicy: Never\nspec:\n  containers:\n  - {name: a, image: b}\n",
        &["5:3: metadata.restartPolicy: unknown field (restartPolicy belongs under spec)"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    imagee: b\n",
        &[
            "6:5: spec.containers[0].image: required: the image to run",
            "7:5: spec.containers[0].imagee: unknown field (did you mean image?)",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: b, volumes: []}\nimage: x\n",
        &[
            "6:25: spec.containers[0].volumes: unknown field (volumes belongs under spec)",
            "7:1: image: unknown field (image belongs under spec.containers[])",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    image: c\n",
        &["8:5: spec.containers[0].image: stands here a second time; first on line 7"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  zzzzzz: 1\n  containers:\n  - {name: a, image: b}\n",
        &["5:3: spec.zzzzzz: unknown field"],
    ),
    // Types.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    command: sh\n    env:\n    - name: X\n      value: 5\n    tty: 1\n    ports: [{containerPort: \"80\"}]\n",
        &[
            "8:14: spec.containers[0].command: expected a list, got the text \"sh\" (a list of one is written [\"sh\"])",
            "11:14: spec.containers[0].env[0].value: expected a text, got the number 5 (put it in quotes: \"5\")",
            "12:10: spec.containers[0].tty: expected true or false, got the number 1",
            "13:29: spec.containers[0].ports[0].containerPort: expected an integer, got the text \"80\" (remove the quotes)",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {v: 1.0}}\nspec:\n  containers: {name: a}\n",
        &[
            "3:33: metadata.labels.v: expected a text, got the number 1.0 (put it in quotes: \"1.0\")",
            "5:3: spec.containers: expected a list, got an object (each item of a list begins with \"- \")",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: hello\n",
        &["4:7: spec: expected an object, got the text \"hello\""],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: b, securityContext: {runAsUser: 99999999999}}\n  terminationGracePeriodSeconds: -1\n",
        &[
            "6:54: spec.containers[0].securityContext.runAsUser: 99999999999 is not from 0 to 2147483647",
            "7:34: spec.terminationGracePeriodSeconds: -1 is not a number of seconds from 0 to 4294967295",
        ],
    ),
    // Quantities.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    resources:\n      limits:\n        memory: 64Mib\n        cpu: abc\n",
        &[
            "10:17: spec.containers[0].resources.limits.memory: \"Mib\" in \"64Mib\" is not a unit of quantities, which are m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi and Ei (did you mean 64Mi?)",
            "11:14: spec.containers[0].resources.limits.cpu: \"abc\" is not a quantity: it must be a number, with a unit like m, k, M, Gi",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: b, resources: {limits: {memory: 100m, cpu: -1}, requests: {ephemeral-storage: 1e30}}}\n",
        &[
            "6:54: spec.containers[0].resources.limits.memory: 1 bytes are too little for any process (m is a thousandth; write M or Mi for megabytes)",
            "6:65: spec.containers[0].resources.limits.cpu: \"-1\" is negative",
            "6:100: spec.containers[0].resources.requests.ephemeral-storage: \"1e30\" is more than a quantity may be (9223372036854775807)",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: b, resources: {limits: {cpu: 1, nvidia.com/gpu: 1}, requests: {cpu: 1500m}}}\n",
        &[
            "6:70: spec.containers[0].resources.limits[nvidia.com/gpu]: not supported yet; cpu, memory and ephemeral-storage are",
            "6:90: spec.containers[0].resources.requests.cpu: must not be more than the cpu limit",
        ],
    ),
    // Names.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  initContainers:\n  - {name: a, image: b}\n  containers:\n  - {name: a, image: b}\n",
        &["8:12: spec.containers[0].name: \"a\" is the name of another container of the pod"],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: Web_1}\nspec:\n  hostname: a.b\n  containers:\n  - {image: b}\n",
        &[
            "3:18: metadata.name: \"Web_1\" must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
            "5:13: spec.hostname: \"a.b\" must be lower-case letters, digits and '-', with a letter or digit at both ends",
            "7:5: spec.containers[0].name: required",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: []}\n",
        &[
            "3:1: metadata.name: required: the pod's name (or metadata.generateName)",
            "4:8: spec.containers: required: at least one container",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {-x: \"a b\"}}\nspec:\n  containers:\n  - {name: a, image: \"Bad Image\"}\n",
        &[
            "3:34: metadata.labels.-x: \"-x\" must be letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            "3:34: metadata.labels.-x: \"a b\" must be letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            "6:22: spec.containers[0].image: image reference \"Bad Image\" has a blank in it; no image's name does",
        ],
    ),
    // Volumes.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    volumeMounts:\n    - {name: data, mountPath: /data}\n",
        &[
            "9:14: spec.containers[0].volumeMounts[0].name: \"data\" is not a volume of the pod (spec.volumes declares them)",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  volumes:\n  - name: v\n  - name: v\n  - name: c\n    configMap: {name: x}\n  - name: h\n    hostPath:\n      path: /etc/../x\n  - name: m\n    emptyDir: {medium: memory, sizeLimit: many}\n  containers:\n  - name: a\n    image: b\n    volumeMounts:\n    - {name: v, mountPath: /data/}\n    - {name: v, mountPath: //data, subPath: ../x}\n    - {name: v, mountPath: /a/../b}\n    - {name: v}\n    - {name: v, mountPath: /proc/1/x}\n",
        &[
            "7:11: spec.volumes[1].name: \"v\" is the name of another volume of the pod",
            "12:13: spec.volumes[3].hostPath.path: must not contain '..'",
            "14:24: spec.volumes[4].emptyDir.medium: \"memory\" is not one of \"\", Memory (did you mean Memory?)",
            "14:43: spec.volumes[4].emptyDir.sizeLimit: \"many\" is not a quantity: it must be a number, with a unit like m, k, M, Gi",
            "20:28: spec.containers[0].volumeMounts[1].mountPath: another volume is mounted at \"/data\" already",
            "20:45: spec.containers[0].volumeMounts[1].subPath: \"../x\" must not contain '..'",
            "21:28: spec.containers[0].volumeMounts[2].mountPath: \"/a/../b\" is not a place for a volume",
            "22:7: spec.containers[0].volumeMounts[3].mountPath: required: where the volume goes",
            "23:28: spec.containers[0].volumeMounts[4].mountPath: nothing can be mounted over or into /proc",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  volumes:\n  - name: a\n    hostPath: {path: etc, type: directory}\n  - name: b\n    hostPath: {path: /run/x.sock, type: Socket}\n  - name: c\n    hostPath: {path: /dev/null, type: CharDevice}\n  - name: d\n    hostPath: {path: ''}\n    emptyDir: {}\n  - name: e\n    hostPath: {path: /e}\n    configMap: {name: x}\n  containers:\n  - name: a\n    image: b\n    volumeMounts:\n    - {name: a, mountPath: /a, mountPropagation: HostToContainer}\n    - {name: b, mountPath: /b, mountPropagation: Bidirectional}\n    - {name: c, mountPath: /c, mountPropagation: None}\n",
        &[
            "7:22: spec.volumes[0].hostPath.path: \"etc\" is not an absolute path",
            "7:33: spec.volumes[0].hostPath.type: \"directory\" is not one of \"\", DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, BlockDevice (did you mean Directory?)",
            "9:41: spec.volumes[1].hostPath.type: a socket of the host is an object of its kernel; a pod has a kernel of its own, which cannot reach it through a shared directory",
            "11:39: spec.volumes[2].hostPath.type: a character device of the host is an object of its kernel; a pod has a kernel of its own, which cannot reach it through a shared directory",
            "12:5: spec.volumes[3]: a volume is of one kind only",
            "13:22: spec.volumes[3].hostPath.path: required",
            "15:5: spec.volumes[4]: a volume is of one kind only",
            "22:50: spec.containers[0].volumeMounts[0].mountPropagation: HostToContainer is not supported: what is mounted on the host later does not reach a pod's machine",
            "23:50: spec.containers[0].volumeMounts[1].mountPropagation: Bidirectional is not supported: what a pod mounts stays in its machine",
        ],
    ),
    // Ports and environment.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    ports:\n    - {containerPort: 70000}\n    - {containerPort: 80, hostPort: 80800, name: web}\n    - {containerPort: 81, protocol: tcp, name: web}\n    - {name: no_port}\n",
        &[
            "9:23: spec.containers[0].ports[0].containerPort: 70000 is not a port from 1 to 65535",
            "10:37: spec.containers[0].ports[1].hostPort: 80800 is not a port from 1 to 65535",
            "11:37: spec.containers[0].ports[2].protocol: \"tcp\" is not one of TCP, UDP, SCTP (did you mean TCP?)",
            "11:48: spec.containers[0].ports[2].name: \"web\" is the name of another port of the container",
            "12:7: spec.containers[0].ports[3].containerPort: required: a port from 1 to 65535",
            "12:14: spec.containers[0].ports[3].name: \"no_port\" must be lower-case letters, digits and single '-', with a letter or digit at both ends",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    env:\n    - {name: \"A=B\", value: x}\n    - name: S\n      valueFrom:\n        secretKeyRef: {name: x, key: y}\n    envFrom:\n    - configMapRef: {name: x}\n",
        &[
            "9:14: spec.containers[0].env[0].name: \"A=B\" must be printable ASCII characters without '='",
        ],
    ),
    // Known, but not yet; or not at all.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  hostNetwork: true\n  restartPolicy: never\n  containers:\n  - name: a\n    image: b\n    livenessProbe:\n      exec: {command: [a]}\n    lifecycle: {preStop: {exec: {command: [a]}}}\n",
        &[
            "5:16: spec.hostNetwork: refused: a pod runs in a machine of its own and cannot share the host's",
            "6:18: spec.restartPolicy: \"never\" is not one of Always, OnFailure, Never (did you mean Never?)",
        ],
    ),
    // Security.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  securityContext: {fsGroup: 5, runAsUser: 0}\n  containers:\n  - name: a\n    image: b\n    securityContext:\n      privileged: true\n      allowPrivilegeEscalation: false\n      runAsNonRoot: true\n      capabilities: {add: [NET_ADMN, CAP_SYS_TIM, FLY]}\n      seccompProfile: {type: Localhost, localhostProfile: ../x}\n",
        &[
            "9:5: spec.containers[0].securityContext.runAsUser: 0 is root, which runAsNonRoot forbids",
            "11:33: spec.containers[0].securityContext.allowPrivilegeEscalation: cannot be false while privileged is true",
            "13:28: spec.containers[0].securityContext.capabilities.add[0]: \"NET_ADMN\" is not a capability of Linux (did you mean NET_ADMIN?)",
            "13:38: spec.containers[0].securityContext.capabilities.add[1]: \"CAP_SYS_TIM\" is not a capability of Linux (did you mean SYS_TIME?)",
            "13:51: spec.containers[0].securityContext.capabilities.add[2]: \"FLY\" is not a capability of Linux",
            "14:59: spec.containers[0].securityContext.seccompProfile.localhostProfile: must not contain '..'",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  securityContext:\n    sysctls:\n    - {name: kernel.panic, value: \"1\"}\n    - {name: net..x, value: \"1\"}\n    - {name: net.ipv4.tcp_syncookies, value: \"1\"}\n    - {name: net/ipv4/tcp_syncookies, value: \"0\"}\n  volumes: [{name: v}]\n  containers:\n  - name: a\n    image: b\n    securityContext: {procMount: None}\n    volumeMounts:\n    - {name: v, mountPath: /a, recursiveReadOnly: Enabled}\n    - {name: v, mountPath: /b, subPath: x, subPathExpr: /y}\n",
        &[
            "7:14: spec.securityContext.sysctls[0].name: \"kernel.panic\" is not a parameter that a pod has of its own",
            "8:14: spec.securityContext.sysctls[1].name: \"net..x\" is not the name of a kernel parameter",
            "10:14: spec.securityContext.sysctls[3].name: \"net/ipv4/tcp_syncookies\" is set twice",
            "15:34: spec.containers[0].securityContext.procMount: \"None\" is not one of Default, Unmasked",
            "17:51: spec.containers[0].volumeMounts[0].recursiveReadOnly: may only be used together with readOnly: true",
            "18:57: spec.containers[0].volumeMounts[1].subPathExpr: \"/y\" must be a relative path",
            "18:57: spec.containers[0].volumeMounts[1].subPathExpr: cannot be used together with subPath",
        ],
    ),
    // Names of the network.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  dnsPolicy: None\n  hostAliases: [{ip: 1.2.3, hostnames: [A]}]\n  dnsConfig: {nameservers: [x], options: [{name: \"a b\"}]}\n  containers: [{name: a, image: b}]\n",
        &[
            "6:22: spec.hostAliases[0].ip: \"1.2.3\" is not an IP address",
            "6:41: spec.hostAliases[0].hostnames[0]: \"A\" must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
            "7:29: spec.dnsConfig.nameservers[0]: \"x\" is not an IP address",
            "7:50: spec.dnsConfig.options[0].name: \"a b\" must be one word",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  dnsPolicy: None\n  containers: [{name: a, image: b}]\n",
        &["4:1: spec.dnsConfig.nameservers: required: at least one, with the dnsPolicy None"],
    ),
    // Whole documents.
    (
        "apiVersion: batch/v1\nkind: CronJob\n---\napiVersion: v1\nkind: pod\n---\napiVersion: v2\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}\n---\nname: x\n---\n- a\n",
        &[
            "2:7: kind: CronJob is not supported: no daemon is here to start its Job by the clock (beluga run --now -f FILE runs its Job once; cron or a systemd timer can do so)",
            "5:7: kind: pod is not supported; Pod, ConfigMap, Secret, PersistentVolumeClaim, NetworkPolicy, Deployment, ReplicaSet, ReplicationController, StatefulSet, DaemonSet and Job are (did you mean Pod?)",
            "7:13: apiVersion: a Pod is of apiVersion v1, not \"v2\"",
            "12:1: kind: required: Pod",
            "14:1: expected a Kubernetes object",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}\n",
        &["8:18: metadata.name: \"a\" is the name of another pod of this manifest"],
    ),
    (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {nam: a}\n  spec: {containers: [{name: a, image: b}]}\n",
        &[
            "6:3: items[0].metadata.name: required: the pod's name (or metadata.generateName)",
            "6:14: items[0].metadata.nam: unknown field (did you mean name?)",
        ],
    ),
    ("", &["1:1: there is no pod in it"]),
    ("# nothing\n---\n", &["1:1: there is no pod in it"]),
    // Not YAML.
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a\nspec: x\n",
        &["4:5: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'"],
    ),
    (
        "a: &x [*x]\n",
        &["1:8: an alias stands inside its own anchor"],
    ),
    (
        "a: !custom 1\n",
        &["1:4: the YAML tag \"custom\" means nothing here"],
    ),
    ("? [a]\n: b\n", &["1:3: a key must be a text"]),
    // Configuration.
    (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A}\ndata: {a/b: x, ..c: y, n: 5}\nbinaryData: {k: '!'}\ndate: {}\n",
        &[
            "3:18: metadata.name: \"A\" must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
            "4:13: data[a/b]: \"a/b\" must be letters, digits, '-', '_' and '.'",
            "4:21: data[..c]: \"..c\" must not be '.' or begin with '..'",
            "4:27: data.n: expected a text, got the number 5 (put it in quotes: \"5\")",
            "5:17: binaryData.k: is not base64: Invalid symbol 33, offset 0.",
            "6:1: date: unknown field (did you mean data?)",
        ],
    ),
    (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\ndata: {k: a}\nbinaryData: {k: YQ==}\n",
        &[
            "3:1: metadata.name: required: the ConfigMap's name",
            "5:17: binaryData.k: is a key of data as well",
        ],
    ),
    (
        "apiVersion: v2\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\nstringData: {tls.crt: x}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: x}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: t}\ntype: kubernetes.io/basic-auth\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: u}\ntype: kubernetes.io/service-account-token\n",
        &[
            "1:1: data[tls.key]: required in a secret of type kubernetes.io/tls",
            "1:13: apiVersion: a Secret is of apiVersion v1, not \"v2\"",
            "7:1: data[.dockerconfigjson]: is not JSON",
            "9:18: metadata.name: \"s\" is the name of another secret of this manifest",
            "13:1: data: a secret of type kubernetes.io/basic-auth needs username or password",
            "21:7: type: kubernetes.io/service-account-token is refused: there are no service accounts here",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n    env:\n    - {name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}\n    - {name: B, valueFrom: {}}\n    - {name: C, valueFrom: {fieldRef: {fieldPath: metadata.labels, apiVersion: v2}}}\n    - {name: D, valueFrom: {fieldRef: {fieldPath: \"spec.x['y']\"}}}\n    - {name: E, valueFrom: {resourceFieldRef: {resource: limits.gpu, divisor: 3, containerName: z}}}\n    - {name: F, valueFrom: {secretKeyRef: {name: s, key: k/l}, configMapKeyRef: {key: k}}}\n    - {name: G, valueFrom: {fileKeyRef: {key: k=, path: ../p, volumeName: v}}}\n    envFrom:\n    - {prefix: \"a=\"}\n    - {configMapRef: {name: m}, secretRef: {name: s}}\n",
        &[
            "9:27: spec.containers[0].env[0].valueFrom: cannot be used together with a value",
            "10:17: spec.containers[0].env[1].valueFrom: required: fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef or fileKeyRef",
            "11:51: spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: \"metadata.labels\" is not one of metadata.name, metadata.namespace, metadata.uid, spec.nodeName, spec.serviceAccountName, status.podIP, status.podIPs, status.hostIP, status.hostIPs, metadata.labels['KEY'], metadata.annotations['KEY']",
            "11:80: spec.containers[0].env[2].valueFrom.fieldRef.apiVersion: \"v2\" is not one of v1 (did you mean v1?)",
            "12:51: spec.containers[0].env[3].valueFrom.fieldRef.fieldPath: spec.x has no keys in brackets",
            "13:58: spec.containers[0].env[4].valueFrom.resourceFieldRef.resource: \"limits.gpu\" is not one of limits.cpu, limits.memory, limits.ephemeral-storage, requests.cpu, requests.memory, requests.ephemeral-storage (did you mean limits.cpu?)",
            "13:79: spec.containers[0].env[4].valueFrom.resourceFieldRef.divisor: \"3\" is not one of 1 and 1m",
            "13:97: spec.containers[0].env[4].valueFrom.resourceFieldRef.containerName: \"z\" is not a container of the pod",
            "14:17: spec.containers[0].env[5].valueFrom: only one of its fields may be there",
            "14:58: spec.containers[0].env[5].valueFrom.secretKeyRef.key: \"k/l\" must be letters, digits, '-', '_' and '.'",
            "14:64: spec.containers[0].env[5].valueFrom.configMapKeyRef.name: required",
            "15:47: spec.containers[0].env[6].valueFrom.fileKeyRef.key: \"k=\" must be printable ASCII characters without '='",
            "15:57: spec.containers[0].env[6].valueFrom.fileKeyRef.path: \"../p\" must not begin with '..'",
            "15:75: spec.containers[0].env[6].valueFrom.fileKeyRef.volumeName: \"v\" is not a volume of the pod (spec.volumes declares them)",
            "17:7: spec.containers[0].envFrom[0]: required: configMapRef or secretRef",
            "17:16: spec.containers[0].envFrom[0].prefix: \"a=\" must be printable ASCII characters without '='",
            "18:7: spec.containers[0].envFrom[1]: only one of configMapRef and secretRef may be there",
        ],
    ),
    (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: a, image: b}]\n  volumes:\n  - {name: a, configMap: {defaultMode: 0777, items: [{key: k, path: ../x}, {key: k, path: x, mode: 01000}, {key: /, path: x}]}, emptyDir: {}}\n  - {name: b, secret: {defaultMode: -1, items: [{key: k, path: /x}, {key: k, path: a//b}]}}\n  - name: c\n    projected:\n      sources:\n      - {}\n      - {serviceAccountToken: {path: token}}\n      - {clusterTrustBundle: {path: x}, secret: {name: s}, configMap: {name: m}}\n      - downwardAPI: {items: [{path: p}, {path: p, fieldRef: {fieldPath: spec.nodeName}}, {path: q, resourceFieldRef: {resource: limits.cpu}}]}\n",
        &[
            "7:5: spec.volumes[0]: a volume is of one kind only",
            "7:15: spec.volumes[0].configMap.name: required",
            "7:69: spec.volumes[0].configMap.items[0].path: \"../x\" must not begin with '..'",
            "7:100: spec.volumes[0].configMap.items[1].mode: 512 is not a mode from 0 to 0777 (511)",
            "7:114: spec.volumes[0].configMap.items[2].key: \"/\" must be letters, digits, '-', '_' and '.'",
            "7:123: spec.volumes[0].configMap.items[2].path: \"x\" is the path of another file of the volume",
            "8:15: spec.volumes[1].secret.secretName: required",
            "8:37: spec.volumes[1].secret.defaultMode: -1 is not a mode from 0 to 0777 (511)",
            "8:64: spec.volumes[1].secret.items[0].path: \"/x\" must be a relative path",
            "8:84: spec.volumes[1].secret.items[1].path: \"a//b\" must not have empty parts or '.'",
            "12:9: spec.volumes[2].projected.sources[0]: required: configMap, secret or downwardAPI",
            "13:10: spec.volumes[2].projected.sources[1].serviceAccountToken: refused: there is no cluster here that could issue it",
            "14:9: spec.volumes[2].projected.sources[2]: a source is of one kind only",
            "14:10: spec.volumes[2].projected.sources[2].clusterTrustBundle: refused: there is no cluster here that could issue it",
            "15:31: spec.volumes[2].projected.sources[3].downwardAPI.items[0]: required: one of fieldRef and resourceFieldRef",
            "15:49: spec.volumes[2].projected.sources[3].downwardAPI.items[1].path: \"p\" is the path of another file of the volume",
            "15:74: spec.volumes[2].projected.sources[3].downwardAPI.items[1].fieldRef.fieldPath: \"spec.nodeName\" is not one of metadata.name, metadata.namespace, metadata.uid, metadata.labels, metadata.annotations, metadata.labels['KEY'], metadata.annotations['KEY']",
            "15:101: spec.volumes[2].projected.sources[3].downwardAPI.items[2].resourceFieldRef.containerName: required: the container's name",
        ],
    ),
    (
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec:\n  accessModes: [ReadWriteMany, Often]\n  volumeMode: Disk\n  selector: {}\n  resources: {requests: {storage: 1Mi}}\n  storageClassName: beluga-disk\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: b}\nspec: {}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: a, image: b}]\n  volumes: [{name: v, persistentVolumeClaim: {claimName: A}, emptyDir: {}}]\n",
        &[
            "5:17: spec.accessModes[0]: ReadWriteMany is refused: a disk belongs to one pod's machine at a time",
            "5:32: spec.accessModes[1]: \"Often\" is not one of ReadWriteOnce, ReadWriteOncePod",
            "6:15: spec.volumeMode: \"Disk\" is not one of Filesystem, Block",
            "7:3: spec.selector: not supported yet",
            "8:35: spec.resources.requests.storage: 1048576 bytes are too little for a file system (8Mi)",
            "14:1: spec.accessModes: required: one of ReadWriteOnce, ReadWriteOncePod, ReadWriteMany, ReadOnlyMany",
            "14:1: spec.resources.requests.storage: required: how much is asked for",
            "21:13: spec.volumes[0]: a volume is of one kind only",
            "21:58: spec.volumes[0].persistentVolumeClaim.claimName: \"A\" must be lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
        ],
    ),
    (
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec:\n  accessModes: [ReadWriteMany, ReadWriteOncePod]\n  storageClassName: beluga-dir\n  resources: {requests: {storage: 0}}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: b}\nspec:\n  accessModes: [ReadWriteOnce, Twice]\n  storageClassName: beluga-directory\n  volumeMode: Block\n  resources: {requests: {storage: -1}}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c}\nspec:\n  accessModes: [ReadWriteMany]\n  volumeMode: Block\n  resources: {requests: {storage: 8Mi}}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: a, image: b}]\n  volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], storageClassName: beluga-directory, resources: {requests: {storage: 8Mi}}}}}}]\n",
        &[
            "5:3: spec.accessModes: may not use ReadWriteOncePod with other access modes",
            "6:21: spec.storageClassName: \"beluga-dir\" is not one of beluga-disk, beluga-directory",
            "7:35: spec.resources.requests.storage: must be more than 0",
            "13:32: spec.accessModes[1]: \"Twice\" is not one of ReadWriteOnce, ReadWriteOncePod, ReadWriteMany, ReadOnlyMany",
            "15:15: spec.volumeMode: Block is refused: a directory is no device",
            "16:35: spec.resources.requests.storage: \"-1\" is negative",
            "22:17: spec.accessModes[0]: ReadWriteMany is refused: a disk belongs to one pod's machine at a time",
            "31:112: spec.volumes[0].ephemeral.volumeClaimTemplate.spec.storageClassName: beluga-directory is refused: a volume of the pod's own is a disk",
        ],
    ),
];

#[test]
fn every_error_is_told_with_its_place() {
    let mut wrong = String::new();
    for (manifest, expected) in CASES {
        let told = match spec::parse("pod.yaml", manifest) {
            Ok(_) => vec!["(accepted)".to_owned()],
            Err(error) => error.issues.iter().map(ToString::to_string).collect(),
        };
        if told != *expected {
            wrong += &format!("\n{manifest}\n  told:\n");
            told.iter()
                .for_each(|line| wrong += &format!("    {line}\n"));
            wrong += "  expected:\n";
            expected
                .iter()
                .for_each(|line| wrong += &format!("    {line}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
