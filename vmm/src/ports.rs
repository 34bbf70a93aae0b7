//! The few I/O ports that a guest finds: a write-only UART, a CMOS clock that
//! never updates, the keyboard controller's reset line, and the boot stamp.

use crate::console::Console;
use beluga_proto::{STAMP_PORT, Stamp};
use std::sync::{Arc, Mutex, PoisonError};

const UART: u16 = 0x3f8;
const UART_LAST: u16 = 0x3ff;
const UART_DATA: u16 = 0;
const UART_LINE_CONTROL: u16 = 3;
const UART_LINE_STATUS: u16 = 5;
/// Line control: the first two registers are the divisor's.
const UART_DIVISOR: u8 = 0x80;
/// Line status: all sent, ready for more.
const UART_EMPTY: u8 = 0x60;

const KEYBOARD_COMMAND: u16 = 0x64;
const KEYBOARD_RESET: u8 = 0xfe;

const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
const CMOS_STATUS_A: u8 = 0x0a;
const CMOS_STATUS_B: u8 = 0x0b;
const CMOS_STATUS_D: u8 = 0x0d;

/// What a write means for the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortEvent {
    /// Nothing.
    None,
    /// The guest wants a reset.
    Reset,
    /// The guest tells how far it is.
    Stamp(Stamp),
}

/// The ports of one machine.
#[derive(Debug)]
pub struct Ports {
    console: Arc<Console>,
    registers: Mutex<Registers>,
}

/// What the guest has set, as a plain value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Registers {
    line_control: u8,
    cmos_index: u8,
}

impl Ports {
    /// Ports whose UART writes to `console`.
    #[must_use]
    pub fn new(console: Arc<Console>) -> Self {
        Self {
            console,
            registers: Mutex::default(),
        }
    }

    fn registers(&self) -> std::sync::MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest wrote `data` to `port` (several values when it was a string
    /// instruction).
    pub fn write(&self, port: u16, data: &[u8]) -> PortEvent {
        let Some(&value) = data.first() else {
            return PortEvent::None;
        };
        match port {
            UART..=UART_LAST => self.write_uart(port - UART, data, value),
            KEYBOARD_COMMAND if value == KEYBOARD_RESET => return PortEvent::Reset,
            CMOS_INDEX => self.registers().cmos_index = value & 0x7f,
            STAMP_PORT => return Stamp::from_byte(value).map_or(PortEvent::None, PortEvent::Stamp),
            _ => {}
        }
        PortEvent::None
    }

    fn write_uart(&self, register: u16, data: &[u8], value: u8) {
        match register {
            UART_DATA if self.registers().line_control & UART_DIVISOR == 0 => {
                self.console.write(data);
            }
            UART_LINE_CONTROL => self.registers().line_control = value,
            _ => {}
        }
    }

    /// The guest reads `port`.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        let value = match port {
            UART..=UART_LAST if port - UART == UART_LINE_STATUS => UART_EMPTY,
            UART..=UART_LAST | KEYBOARD_COMMAND => 0,
            CMOS_DATA => match self.registers().cmos_index {
                // 32768 Hz, no update under way: a kernel that waits for one
                // goes on at once.
                CMOS_STATUS_A => 0x26,
                // 24 hours, BCD.
                CMOS_STATUS_B => 0x02,
                // The battery is good.
                CMOS_STATUS_D => 0x80,
                // 1 January 2000, midnight.
                7 | 8 => 0x01,
                _ => 0,
            },
            // An empty bus.
            _ => 0xff,
        };
        data.fill(value);
    }

    /// What the guest has set.
    #[must_use]
    pub fn save(&self) -> Registers {
        *self.registers()
    }

    /// Takes up saved registers.
    pub fn restore(&self, registers: Registers) {
        *self.registers() = registers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divisor_is_no_output() {
        let console = Arc::new(Console::default());
        let ports = Ports::new(Arc::clone(&console));
        ports.write(UART + 3, &[0x83]);
        ports.write(UART, &[0x01]);
        ports.write(UART + 3, &[0x03]);
        ports.write(UART, b"hi");
        assert_eq!(console.tail(100), "hi");
        let mut status = [0];
        ports.read(UART + 5, &mut status);
        assert_eq!(status, [0x60]);
    }

    #[test]
    fn stamps_and_the_reset_are_events() {
        let ports = Ports::new(Arc::default());
        assert_eq!(
            ports.write(STAMP_PORT, &[Stamp::Init as u8]),
            PortEvent::Stamp(Stamp::Init)
        );
        assert_eq!(ports.write(STAMP_PORT, &[0x77]), PortEvent::None);
        assert_eq!(ports.write(0x64, &[0xfe]), PortEvent::Reset);
        assert_eq!(ports.write(0x64, &[0xd1]), PortEvent::None);
        assert_eq!(ports.write(0xcf9, &[6]), PortEvent::None);
    }

    #[test]
    fn the_clock_never_updates() {
        let ports = Ports::new(Arc::default());
        ports.write(CMOS_INDEX, &[0x8a]);
        let mut value = [0];
        ports.read(CMOS_DATA, &mut value);
        assert_eq!(value[0] & 0x80, 0);
    }
}
