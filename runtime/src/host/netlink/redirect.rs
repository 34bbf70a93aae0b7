//! All packets that one interface receives go out by another (tc(8): a filter
//! that matches all, with the action `mirred egress redirect`). Filters are the
//! interface's, not a queue's: a tap may have any number of those.

use super::{Netlink, NetlinkError};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterMatchAllOption, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
};

/// `ETH_P_ALL` in network order.
const ALL: u32 = 0x0300;

impl Netlink {
    /// Sets a link up, with so large packets.
    pub fn bring_up(&mut self, name: &str, mtu: u16) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(u32::from(mtu)),
        ];
        let action = format!("bring up {name}");
        self.change(RouteNetlinkMessage::SetLink(message), 0, action)
    }

    /// What the link `from` receives goes out by the link `to`.
    pub fn redirect(&mut self, from: u32, to: u32) -> Result<(), NetlinkError> {
        let number = i32::try_from(from).unwrap_or(i32::MAX);
        let mut queue = TcMessage::with_index(number);
        queue.header.parent = TcHandle::INGRESS;
        queue.header.handle = TcHandle {
            major: u16::MAX,
            minor: 0,
        };
        queue.attributes = vec![TcAttribute::Kind("ingress".to_owned())];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let action = || format!("lead packets from interface {from} to interface {to}");
        self.change(
            RouteNetlinkMessage::NewQueueDiscipline(queue),
            flags,
            action(),
        )?;
        let mut filter = TcMessage::with_index(number);
        filter.header.parent = TcHandle {
            major: u16::MAX,
            minor: 0,
        };
        // Priority and protocol.
        filter.header.info = 1 << 16 | ALL;
        filter.attributes = vec![
            TcAttribute::Kind("matchall".to_owned()),
            TcAttribute::Options(vec![TcOption::MatchAll(TcFilterMatchAllOption::Action(
                vec![away(to)],
            ))]),
        ];
        let message = RouteNetlinkMessage::NewTrafficFilter(filter);
        self.change(message, flags, action())
    }
}

fn away(to: u32) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    action.tab = 1;
    action.attributes = vec![
        TcActionAttribute::Kind("mirred".to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    action
}
