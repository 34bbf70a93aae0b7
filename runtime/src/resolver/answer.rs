//! From a query's bytes to an answer's, without sockets or clocks.

use super::names::{Found, Names};
use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::{A, Aaaa, Ptr};
use std::net::IpAddr;

/// Seconds that an answer holds: pods come and go.
const TTL: u32 = 5;

/// Longest answer over UDP, in bytes (RFC 1035, section 2.3.4).
pub const UDP_MAX: usize = 512;

/// What becomes of a query.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// This is the answer.
    Answer(Vec<u8>),
    /// Others are to be asked.
    Forward,
    /// It is no query: nobody is answered.
    Nothing,
}

/// Answers a query from an address, with `limit` bytes at most.
pub fn answer(query: &[u8], asking: IpAddr, names: &Names, limit: usize) -> Said {
    let Ok(message) = Message::from_octets(query) else {
        return Said::Nothing;
    };
    if message.header().qr() {
        return Said::Nothing;
    }
    if message.header().opcode() != Opcode::QUERY {
        return Said::Answer(refusal(query, Rcode::NOTIMP));
    }
    let Ok(question) = message.sole_question() else {
        return Said::Answer(refusal(query, Rcode::FORMERR));
    };
    match question.qtype() {
        Rtype::AXFR | Rtype::IXFR => return Said::Answer(refusal(query, Rcode::REFUSED)),
        _ => {}
    }
    if question.qclass() != Class::IN {
        return Said::Forward;
    }
    let name = question.qname().to_string().to_ascii_lowercase();
    let found = names.look_up(name.trim_end_matches('.'), asking);
    if found == Found::Unknown {
        return Said::Forward;
    }
    let made = records(message, &found, question.qtype());
    Said::Answer(match made {
        Ok(bytes) if bytes.len() <= limit => bytes,
        Ok(_) => truncated(message),
        Err(PushError::ShortBuf | PushError::CountOverflow) => refusal(query, Rcode::SERVFAIL),
    })
}

/// An answer that says only why there is none. `query` has a header.
pub fn refusal(query: &[u8], why: Rcode) -> Vec<u8> {
    let Ok(message) = Message::from_octets(query) else {
        return Vec::new();
    };
    let mut answer = MessageBuilder::new_vec().start_error(&message, why);
    answer.header_mut().set_ra(true);
    answer.finish()
}

fn records(message: Message<&[u8]>, found: &Found, wanted: Rtype) -> Result<Vec<u8>, PushError> {
    let code = match found {
        Found::Absent => Rcode::NXDOMAIN,
        _ => Rcode::NOERROR,
    };
    let mut answer = begun(message, code)?;
    // What the client asked for, letter by letter: some check that.
    let owner = message.sole_question().map(|question| *question.qname());
    let Ok(owner) = owner else {
        return Ok(answer.finish());
    };
    match found {
        Found::Addresses(list) => {
            for ip in list {
                match ip {
                    IpAddr::V4(ip) if matches!(wanted, Rtype::A | Rtype::ANY) => {
                        answer.push((owner, TTL, A::new(*ip)))?;
                    }
                    IpAddr::V6(ip) if matches!(wanted, Rtype::AAAA | Rtype::ANY) => {
                        answer.push((owner, TTL, Aaaa::new(*ip)))?;
                    }
                    _ => {}
                }
            }
        }
        Found::Name(name) if matches!(wanted, Rtype::PTR | Rtype::ANY) => {
            if let Ok(name) = name.parse::<Name<Vec<u8>>>() {
                answer.push((owner, TTL, Ptr::new(name)))?;
            }
        }
        Found::Name(_) | Found::Absent | Found::Unknown => {}
    }
    Ok(answer.finish())
}

/// Tells the client to ask over TCP.
fn truncated(message: Message<&[u8]>) -> Vec<u8> {
    begun(message, Rcode::NOERROR).map_or_else(
        |_| Vec::new(),
        |mut answer| {
            answer.header_mut().set_tc(true);
            answer.finish()
        },
    )
}

fn begun(message: Message<&[u8]>, code: Rcode) -> Result<AnswerBuilder<Vec<u8>>, PushError> {
    let mut answer = MessageBuilder::new_vec().start_answer(&message, code)?;
    answer.header_mut().set_aa(true);
    answer.header_mut().set_ra(true);
    Ok(answer)
}

/// Whether `answer` is one to `query`: the same number and question.
pub fn is_answer(query: &[u8], answer: &[u8]) -> bool {
    let (Ok(query), Ok(answer)) = (Message::from_octets(query), Message::from_octets(answer))
    else {
        return false;
    };
    answer.header().qr()
        && answer.header().id() == query.header().id()
        && match (query.sole_question(), answer.sole_question()) {
            (Ok(own), Ok(other)) => own == other,
            // Some servers leave it out of an error.
            (Ok(_), Err(_)) => answer.header_counts().qdcount() == 0,
            _ => false,
        }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::names::tests::three;
    use super::*;
    use proptest::prelude::*;

    const ASKING: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 88, 0, 2));

    pub fn query(name: &str, kind: Rtype) -> Vec<u8> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(7);
        message.header_mut().set_rd(true);
        let mut question = message.question();
        let name: Name<Vec<u8>> = name.parse().unwrap();
        question.push((name, kind)).unwrap();
        question.finish()
    }

    fn answered(name: &str, kind: Rtype) -> Message<Vec<u8>> {
        let query = query(name, kind);
        let Said::Answer(bytes) = answer(&query, ASKING, &three(), UDP_MAX) else {
            panic!("{name} is not answered");
        };
        assert!(is_answer(&query, &bytes), "{name}");
        Message::from_octets(bytes).unwrap()
    }

    #[test]
    fn a_pods_name_has_its_address_and_no_other() {
        let answer = answered("WEB.default", Rtype::A);
        let of = answer.answer().unwrap().limit_to::<A>();
        let ips: Vec<_> = of.map(|record| record.unwrap().data().addr()).collect();
        assert_eq!(ips, [std::net::Ipv4Addr::new(10, 88, 0, 2)]);
        let none = answered("web", Rtype::AAAA);
        assert_eq!(none.header().rcode(), Rcode::NOERROR);
        assert_eq!(none.header_counts().ancount(), 0);
        let absent = answered("db.shop.svc.cluster.local", Rtype::A);
        assert_eq!(absent.header().rcode(), Rcode::NXDOMAIN);
        let name = answered("3.0.88.10.in-addr.arpa", Rtype::PTR);
        assert_eq!(name.header_counts().ancount(), 1);
    }

    #[test]
    fn the_rest_is_for_others_and_what_is_no_query_for_nobody() {
        let names = three();
        let of = |bytes: &[u8]| answer(bytes, ASKING, &names, UDP_MAX);
        assert_eq!(of(&query("example.com", Rtype::A)), Said::Forward);
        assert_eq!(of(&[1, 2, 3]), Said::Nothing);
        let mut reply = query("web", Rtype::A);
        reply[2] |= 0x80;
        assert_eq!(of(&reply), Said::Nothing);
        let long = answer(&query("web", Rtype::A), ASKING, &names, 30);
        let Said::Answer(long) = long else {
            panic!("{long:?}")
        };
        assert!(Message::from_octets(long).unwrap().header().tc());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(&bytes, ASKING, &three(), UDP_MAX);
            let _ = is_answer(&bytes, &bytes);
        }

        #[test]
        fn nor_do_damaged_queries(at in 0usize..40, byte: u8) {
            let mut bytes = query("web.default.svc.cluster.local", Rtype::A);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = answer(&bytes, ASKING, &three(), UDP_MAX);
        }
    }
}
