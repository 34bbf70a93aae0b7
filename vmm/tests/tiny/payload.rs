//! Guests of a few hundred instructions: 32-bit code behind a PVH entry.

/// Where code is loaded and entered.
pub const CODE: u32 = 0x10_0000;

/// Most bytes of code; the segment goes on with zeroes from there.
const ROOM: usize = 0x4800;

/// Bytes of the segment.
const SEGMENT: usize = 0x5000;

/// Between the end of low memory and the first device.
const NOWHERE: u32 = 0xc800_0000;

/// Where a bzImage says what entries it has.
pub const XLOADFLAGS: usize = 0x236;

/// The UART's data register.
const UART: u16 = 0x3f8;

/// Machine code under construction.
#[derive(Debug, Default)]
pub struct Code(Vec<u8>);

impl Code {
    /// `out port, value`.
    pub fn out(mut self, port: u16, value: u8) -> Self {
        self.0.extend([0x66, 0xba]);
        self.0.extend(port.to_le_bytes());
        self.0.extend([0xb0, value, 0xee]);
        self
    }

    /// Writes a text to the console.
    pub fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out(UART, byte))
    }

    /// `mov dword [address], value`.
    pub fn store(mut self, address: u32, value: u32) -> Self {
        self.0.extend([0xc7, 0x05]);
        self.0.extend(address.to_le_bytes());
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Writes the four bytes at `address` to the console, lowest first.
    pub fn print_word(mut self, address: u32) -> Self {
        self.0.push(0xa1);
        self.0.extend(address.to_le_bytes());
        self.0.extend([0x66, 0xba]);
        self.0.extend(UART.to_le_bytes());
        for _ in 0..4 {
            // out dx, al; shr eax, 8
            self.0.extend([0xee, 0xc1, 0xe8, 0x08]);
        }
        self
    }

    /// Instructions as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// The instructions so far.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Stores bytes from `address` on, and zeroes up to a multiple of four.
    pub fn write(self, address: u32, bytes: &[u8]) -> Self {
        let words = bytes.chunks(4).zip((address..).step_by(4));
        words.fold(self, |code, (bytes, address)| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            code.store(address, u32::from_le_bytes(word))
        })
    }

    /// Copies the four bytes at `from` to `to`.
    pub fn copy_word(self, from: u32, to: u32) -> Self {
        // mov eax, [from]; mov [to], eax
        self.raw(&[0xa1])
            .raw(&from.to_le_bytes())
            .raw(&[0xa3])
            .raw(&to.to_le_bytes())
    }

    /// Waits until one of the bits `mask` of the word at `address` is set.
    pub fn wait_for_bits(self, address: u32, mask: u32) -> Self {
        // again: mov eax, [address]; test eax, mask; jz again
        self.raw(&[0xa1])
            .raw(&address.to_le_bytes())
            .raw(&[0xa9])
            .raw(&mask.to_le_bytes())
            .raw(&[0x74, 0xf4])
    }

    /// Waits until the 16-bit word at `address` is `value`.
    pub fn wait_for(mut self, address: u32, value: u16) -> Self {
        // again: mov ax, [address]; cmp ax, value; jne again
        self.0.extend([0x66, 0xa1]);
        self.0.extend(address.to_le_bytes());
        self.0.extend([0x66, 0x3d]);
        self.0.extend(value.to_le_bytes());
        self.0.extend([0x75, 0xf4]);
        self
    }

    /// Resets the machine by the keyboard controller.
    pub fn reset(self) -> Self {
        self.out(0x64, 0xfe).halt()
    }

    /// Faults with no way to handle that: an empty interrupt table.
    pub fn triple_fault(mut self) -> Self {
        // lidt [the zeroes behind the code]; ud2
        self.0.extend([0x0f, 0x01, 0x1d]);
        self.0.extend((CODE + ROOM as u32).to_le_bytes());
        self.0.extend([0x0f, 0x0b]);
        self
    }

    /// Stands still for ever.
    pub fn halt(mut self) -> Self {
        // jmp here, with a pause: a halted vCPU would need an interrupt.
        self.0.extend([0xf3, 0x90, 0xeb, 0xfc]);
        self
    }

    /// Goes on where there is nothing: no memory and no device.
    pub fn jump_to_nowhere(self) -> Self {
        // mov eax, the hole below 4 GiB; jmp eax
        self.raw(&[0xb8])
            .raw(&NOWHERE.to_le_bytes())
            .raw(&[0xff, 0xe0])
    }

    /// Writes the magic number of the setup header in the zero page, where RSI
    /// points at the 64-bit entry, to the console.
    pub fn print_setup_magic(self) -> Self {
        // mov eax, [rsi + 0x202]; mov dx, UART
        let code = self.raw(&[0x8b, 0x86, 0x02, 0x02, 0, 0, 0x66, 0xba]);
        // out dx, al; shr eax, 8
        let byte = [0xee, 0xc1, 0xe8, 0x08];
        code.raw(&UART.to_le_bytes()).raw(&byte.repeat(4))
    }

    /// The code, which must run in 64-bit mode, at the 64-bit entry of a bzImage
    /// (Documentation/arch/x86/boot.rst): one sector of set-up behind the boot
    /// sector, then the protected-mode part. What stands at its 32-bit entry
    /// faults.
    pub fn bzimage(self) -> Vec<u8> {
        const SETUP: usize = 2 * 512;
        let mut file = vec![0; SETUP];
        let mut field = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        field(0x1f1, &[1]);
        field(0x1f4, &(SEGMENT as u32 / 16).to_le_bytes());
        field(0x1fe, &[0x55, 0xaa]);
        field(0x202, b"HdrS");
        // Protocol 2.15, loaded high, at its usual place, with a 64-bit entry.
        field(0x206, &0x20f_u16.to_le_bytes());
        field(0x211, &[1]);
        field(0x214, &CODE.to_le_bytes());
        field(0x230, &0x20_0000_u32.to_le_bytes());
        field(XLOADFLAGS, &1_u16.to_le_bytes());
        field(0x258, &u64::from(CODE).to_le_bytes());
        field(0x260, &0x10_0000_u32.to_le_bytes());
        // ud2, up to the 64-bit entry.
        file.extend([0x0f, 0x0b].repeat(256));
        file.extend(self.0);
        file.resize(SETUP + SEGMENT, 0);
        file
    }

    /// The code as an ELF file with a PVH note. Its ELF entry point is 0: no
    /// physical address of the image, so that PVH's is taken.
    pub fn elf(self) -> Vec<u8> {
        const HEADERS: usize = 64 + 2 * 56;
        const NOTE: usize = 20;
        const TEXT: usize = 0x1000;
        assert!(self.0.len() <= ROOM, "the payload reaches the zeroes");
        let mut file = Vec::new();
        file.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        // EXEC, x86-64, version 1; entry 0; program headers at 64; no sections.
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0_u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
        let mut program = |kind: u32, offset: usize, address: u32, size: usize| {
            file.extend(kind.to_le_bytes());
            file.extend(7_u32.to_le_bytes());
            let (offset, address, size) = (offset as u64, u64::from(address), size as u64);
            for word in [offset, address, address, size, size, 4] {
                file.extend(word.to_le_bytes());
            }
        };
        program(1, TEXT, CODE, SEGMENT);
        program(4, HEADERS, 0, NOTE);
        // Name "Xen", descriptor of four bytes, type 18: the PVH entry.
        for word in [4_u32, 4, 18] {
            file.extend(word.to_le_bytes());
        }
        file.extend(*b"Xen\0");
        file.extend(CODE.to_le_bytes());
        file.resize(TEXT, 0);
        file.extend(self.0);
        file.resize(TEXT + SEGMENT, 0);
        file
    }
}
