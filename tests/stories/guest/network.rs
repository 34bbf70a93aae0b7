//! Links, routing, traffic control and packet filters, by use. Each line runs in
//! a network namespace of its own.

use super::{Use, all_hold};

/// `reach` says what became of a ping to itself; `listen` waits for its socket.
const LOOPBACK: &str = "ip link set lo up; ip addr add 192.0.2.9/32 dev lo
reach() { ping -qc1 -W1 127.0.0.1 >/dev/null 2>&1 && echo passes || echo lost; }
listen() { nc -l 127.0.0.1 $1 & until ss -Htln | grep -q :$1; do :; done; }";

const LINKS: &[Use] = &[
    (
        "tun and tap",
        "ip tuntap add t0 mode tap; ip tuntap add t1 mode tun; ip -o link show type tun | wc -l",
        "2",
    ),
    (
        "dummy, macvlan, VLAN, VXLAN",
        "ip link add name one type dummy; ip link add link one name two type macvlan
        ip link add link one name one.5 type vlan id 5
        ip link add name three type vxlan id 3 dstport 4789 dev one; ip -br link | wc -l",
        "5",
    ),
    (
        "rules by mark, local routes",
        "for v in 4 6; do to=9.9.9.9; [ $v = 4 ] || to=fd00::9
        ip -$v rule add fwmark 1 lookup 100; ip -$v route add local default dev lo table 100
        ip -$v route get $to mark 1 | head -1 | cut -d' ' -f1-4; done",
        "local 9.9.9.9 dev lo\nlocal fd00::9 dev lo",
    ),
    (
        "rules by source, several next hops",
        "ip link add name one up type dummy; ip addr add 10.9.0.1/24 dev one
        ip route add default nexthop via 10.9.0.2 nexthop via 10.9.0.3
        ip route get 9.9.9.9 | grep -o 'via 10.9.0.[23]' | cut -c1-11
        ip rule add from 10.9.0.1 prohibit; ip route get 9.9.9.9 from 10.9.0.1 2>&1 | grep -o denied",
        "via 10.9.0.\ndenied",
    ),
    (
        "queueing disciplines",
        "for q in htb prio fq fq_codel 'tbf rate 1gbit burst 10k latency 9ms'; do
        tc qdisc replace dev lo root $q; tc qdisc show dev lo | cut -d' ' -f2; reach; done",
        "htb\npasses\nprio\npasses\nfq\npasses\nfq_codel\npasses\ntbf\npasses",
    ),
    (
        "netem loses",
        "tc qdisc add dev lo root netem loss 100%; reach",
        "lost",
    ),
    (
        "flower drops what comes in",
        "tc qdisc add dev lo clsact; reach
        tc filter add dev lo ingress protocol ip flower ip_proto icmp action drop; reach",
        "passes\nlost",
    ),
    (
        "u32 and police",
        "tc qdisc add dev lo ingress; reach
        tc filter add dev lo ingress protocol ip u32 match ip protocol 1 0xff police rate 8bit burst 1 drop; reach",
        "passes\nlost",
    ),
    (
        "matchall and mirred",
        "ip link add name one up type dummy; tc qdisc add dev lo clsact
        tc filter add dev lo egress matchall action mirred egress redirect dev one; reach",
        "lost",
    ),
    (
        "socket diagnosis, a socket closed from outside",
        "listen 9 2>/dev/null; ss -K state listening sport = :9 >/dev/null; wait; ss -Htln | wc -l",
        "0",
    ),
    (
        "congestion control",
        "cat /proc/sys/net/ipv4/tcp_available_congestion_control",
        "reno bbr cubic",
    ),
];

/// A bridge with one port, whose other end is a namespace with 10.9.0.2.
const BRIDGED: &str = "ip link add name bridge0 up type bridge; ip addr add 10.9.0.1/24 dev bridge0
ip link add name port0 master bridge0 up type veth peer name peer0
ip netns add $BASHPID; trap \"ip netns del $BASHPID\" EXIT
ip link set peer0 netns $BASHPID; far=\"ip netns exec $BASHPID\"
$far ip addr add 10.9.0.2/24 dev peer0; $far ip link set peer0 up
mac=$($far cat /sys/class/net/peer0/address)
echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables
reach() { $far ping -qc1 -W9 10.9.0.1 >/dev/null && echo passes; }
count() { iptables -nvxL INPUT | awk 'NR==3 {print $1}'; }";

const BRIDGES: &[Use] = &[
    ("bridge and veth", "reach", "passes"),
    (
        "physdev",
        "iptables -A INPUT -p icmp -m physdev --physdev-in port0; reach; count",
        "passes\n1",
    ),
    (
        "mac",
        "iptables -A INPUT -p icmp -m mac --mac-source $mac; reach; count",
        "passes\n1",
    ),
];

const NFTABLES: &[Use] = &[
    (
        "sets, maps and verdict maps",
        "nft -f - <<N
        table inet k {
            set s { type ipv4_addr; flags interval; elements = { 127.0.0.0/8 }; }
            map v { type inet_proto : verdict; elements = { icmp : drop }; }
            chain c { type filter hook input priority 0; ip saddr @s meta l4proto vmap @v; }
        }\nN\nreach",
        "lost",
    ),
    (
        "numgen and jhash choose, dnat, redirect, masquerade",
        "nft -f - <<N
        table ip k {
            chain o { type nat hook output priority -100;
                tcp dport 80 dnat to 127.0.0.1 : jhash ip saddr mod 1 map { 0 : 8081 };
                tcp dport 81 dnat to numgen random mod 1 map { 0 : 127.0.0.1 }:8081;
                tcp dport 82 redirect to :8081; }
            chain p { type nat hook postrouting priority 100; masquerade; }
        }\nN\nfor port in 80 81 82; do listen 8081; echo to $port | nc -N 127.0.0.1 $port; wait; done",
        "to 80\nto 81\nto 82",
    ),
    (
        "limit, log, reject",
        "nft -f - <<N
        table inet k {
            chain c { type filter hook output priority 0; limit rate over 1/hour burst 1 packets log reject; }
        }\nN\nreach; reach",
        "lost\nlost",
    ),
    (
        "fib, ct, socket, tproxy",
        "nft -f - <<N
        table inet k {
            chain c { type filter hook prerouting priority -150;
                fib daddr type local ct state new counter; socket transparent 1 accept;
                meta l4proto udp counter tproxy ip to 127.0.0.1:15001 meta mark set 1 accept; }
        }\nN\necho x >/dev/udp/127.0.0.1/9; nft list ruleset | grep -c 'packets 1 '",
        "2",
    ),
    (
        "bridge and netdev tables",
        "nft -f - <<N
        table netdev k { chain c { type filter hook ingress device lo priority 0; ip protocol icmp drop; }; }
        table bridge k { chain c { type filter hook forward priority 0; ether type ip accept; }; }\nN\nreach",
        "lost",
    ),
];

/// `hits TABLE CHAIN RULE…`: how many packets the rule takes of one UDP packet
/// and one TCP connection that nobody accepts, over the loopback.
const HITS: &str = "ip link set lo up
send() { echo x >/dev/udp/$to/9; echo x >/dev/tcp/$to/9; } 2>/dev/null
hits() { local table=$1 chain=$2; shift 2
$tables -t $table -A $chain \"$@\" && send; $tables -t $table -nvxL $chain | awk 'NR==3 {print $1}'; }";

/// Rules that let the packet go on, so that one packet passes them all: matches
/// and targets of docker, istio-init, kube-proxy and network plugins.
const PASSED: &[&str] = &[
    "raw -A OUTPUT -p udp -j CT --zone 1",
    "mangle -A OUTPUT -p udp -j MARK --set-xmark 0x4000/0x4000",
    "mangle -A OUTPUT -p udp -j CONNMARK --save-mark",
    "mangle -A OUTPUT -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
    "mangle -A POSTROUTING -p udp -j CHECKSUM --checksum-fill",
    "mangle -A PREROUTING -p tcp -m socket",
    "filter -A INPUT -p udp -m pkttype --pkt-type unicast",
    "filter -A OUTPUT -p udp -m addrtype --dst-type LOCAL",
    "filter -A OUTPUT -p udp -m bpf --bytecode '1,6 0 0 1'",
    "filter -A OUTPUT -p udp -m cgroup --path /",
    "filter -A OUTPUT -p udp -m comment --comment why",
    "filter -A OUTPUT -p udp -m connmark --mark 0x4000/0x4000",
    "filter -A OUTPUT -p udp -m conntrack --ctstate NEW",
    "filter -A OUTPUT -p udp -m hashlimit --hashlimit-upto 5/s --hashlimit-name h",
    "filter -A OUTPUT -p udp -m iprange --dst-range $to-$to",
    "filter -A OUTPUT -p udp -m length --length 1:100",
    "filter -A OUTPUT -p udp -m limit --limit 5/s",
    "filter -A OUTPUT -p udp -m mark --mark 0x4000/0x4000",
    "filter -A OUTPUT -p udp -m multiport --dports 9,80",
    "filter -A OUTPUT -p udp -m owner --uid-owner 0 --gid-owner 0",
    "filter -A OUTPUT -p udp -m recent --name r --set",
    "filter -A OUTPUT -p udp -m recent --name r --rcheck --seconds 60 --reap",
    "filter -A OUTPUT -p udp -m state --state NEW",
    "filter -A OUTPUT -p udp -m statistic --mode random --probability 1.0",
    "filter -A OUTPUT -p udp -m statistic --mode nth --every 2 --packet 0",
    "filter -A OUTPUT -p udp -j LOG",
    "filter -A OUTPUT -p udp -j NFLOG --nflog-group 1",
];

/// How many rules count one packet; those that do not.
const COUNT: &str = "for t in raw mangle filter; do $tables -t $t -vS; done | grep ^-A | { n=0
while read -r rule; do case $rule in *' -c 1 '*) n=$((n+1));; *) echo \"$rule\";; esac; done; echo $n; }";

/// Rules that take the packet: each has one of its own.
const TAKEN: &[&str] = &[
    "nat OUTPUT -p udp -j DNAT --to-destination $to",
    "nat OUTPUT -p udp -j NETMAP --to $to",
    "nat OUTPUT -p tcp -j REDIRECT --to-ports 15001",
    "nat POSTROUTING -p udp -o lo -j MASQUERADE --random-fully",
    "nat POSTROUTING -p udp -j SNAT --to-source $to",
    "filter OUTPUT -p tcp --syn -j REJECT --reject-with tcp-reset",
    "mangle PREROUTING -p udp -j TPROXY --on-port 15001 --tproxy-mark 1/1",
];

const SETS: &[Use] = &[
    (
        "a set of addresses in a rule",
        "ipset create s hash:ip; ipset add s 127.0.0.1
        tables=iptables to=127.0.0.1; hits filter OUTPUT -p udp -m set --match-set s dst",
        "1",
    ),
    (
        "a set of networks",
        "ipset create s hash:net; ipset add s 10.0.0.0/8; ipset test s 10.9.9.9 2>&1 | grep -o ' is in set'",
        "is in set",
    ),
    (
        "kube-proxy's kinds",
        "ipset create a bitmap:port range 0-65535; ipset add a 80
        ipset create b hash:ip,port; ipset add b 10.0.0.1,tcp:80
        ipset create c hash:ip,port,ip; ipset add c 10.0.0.1,tcp:80,10.0.0.2
        ipset create d hash:ip,port,net; ipset add d 10.0.0.1,tcp:80,10.0.0.0/8; ipset save | grep -c ^add",
        "4",
    ),
];

/// Rule sets as their makers load them, and what they are for.
const RULE_SETS: &[Use] = &[
    (
        "docker: a published port leads into the container",
        "iptables -t nat -N DOCKER; iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
        iptables -t nat -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
        iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
        iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 80 -j DNAT --to-destination 127.0.0.1:8081
        iptables -A OUTPUT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        listen 8081; echo published | nc -N 127.0.0.1 80; wait",
        "published",
    ),
    (
        "istio-init: what a program sends to anybody comes to the proxy",
        "iptables-restore <<R
*nat
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT\nR\nip route add default dev lo; listen 15001; echo taken | nc -Nw9 198.51.100.1 80; wait",
        "taken",
    ),
    (
        "istio-init: TPROXY hands a packet to the proxy's transparent socket",
        "iptables -t mangle -A PREROUTING -p udp --dport 9 -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 1/1
        ip rule add fwmark 1 lookup 100; ip route add local default dev lo table 100
        python3 -c 'import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.setsockopt(0, 19, 1)
s.bind((\"127.0.0.1\", 15001)); print(s.recv(9).decode())' & until ss -Huan | grep -q :15001; do :; done
        printf handed >/dev/udp/127.0.0.1/9; wait",
        "handed",
    ),
    (
        "kube-proxy: a service's address leads to an endpoint",
        "iptables-restore <<R
*nat
:KUBE-SVC - [0:0]
:KUBE-SEP - [0:0]
:KUBE-MARK - [0:0]
-A OUTPUT -d 10.96.0.1/32 -p tcp -m comment --comment svc -m tcp --dport 80 -j KUBE-SVC
-A KUBE-SVC ! -s 10.244.0.0/16 -j KUBE-MARK
-A KUBE-SVC -m recent --name K --rcheck --seconds 10800 --reap -j KUBE-SEP
-A KUBE-SVC -m statistic --mode random --probability 1.0 -j KUBE-SEP
-A KUBE-SEP -p tcp -m recent --name K --set -m tcp -j DNAT --to-destination 127.0.0.1:8081
-A KUBE-MARK -j MARK --or-mark 0x4000
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
COMMIT\nR\nip route add default dev lo; listen 8081; echo served | nc -Nw9 10.96.0.1 80; wait",
        "served",
    ),
];

fn in_namespaces(prelude: &str, table: &[Use]) {
    all_hold("root", "unshare -n", prelude, table);
}

/// Every rule by this tool, towards this address, counts its one packet.
fn rules(tool: &str, to: &str) {
    let all: String = PASSED
        .iter()
        .map(|rule| format!("$tables -t {rule}\n"))
        .collect();
    let passed = format!("{all}send\n{COUNT}");
    let count = PASSED.len().to_string();
    let taken: Vec<String> = TAKEN.iter().map(|rule| format!("hits {rule}")).collect();
    let mut table = vec![("all others", &*passed, &*count)];
    table.extend(taken.iter().map(|line| (&**line, &**line, "1")));
    in_namespaces(&format!("tables={tool} to={to}\n{HITS}"), &table);
}

#[test]
fn every_kernel_feature_by_use_links() {
    in_namespaces(LOOPBACK, LINKS);
    in_namespaces(BRIDGED, BRIDGES);
}

#[test]
fn every_kernel_feature_by_use_nftables() {
    in_namespaces(LOOPBACK, NFTABLES);
}

#[test]
fn every_kernel_feature_by_use_iptables() {
    rules("iptables", "127.0.0.1");
}

#[test]
fn every_kernel_feature_by_use_ip6tables() {
    rules("ip6tables", "::1");
}

#[test]
fn every_kernel_feature_by_use_legacy_iptables() {
    rules("iptables-legacy", "127.0.0.1");
}

#[test]
fn every_kernel_feature_by_use_legacy_ip6tables() {
    rules("ip6tables-legacy", "::1");
}

#[test]
fn every_kernel_feature_by_use_ipset() {
    in_namespaces(HITS, SETS);
}

#[test]
fn every_kernel_feature_by_use_rule_sets() {
    in_namespaces(LOOPBACK, RULE_SETS);
}
