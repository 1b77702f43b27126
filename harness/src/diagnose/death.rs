//! What a device's last words mean: a panic, a watchdog, a brownout, a heap that is used up.

use super::Trouble;
use crate::event::printable;

/// What a line must hold, what it likely means, what to do. The more a line tells, the earlier it stands.
const WORDS: [(&[&str], &str, &str); 12] = [
    (
        &["Brownout detector", "BROWN_OUT", "BROWNOUT"],
        "the supply voltage fell too low (brownout)",
        "use a stronger supply and a shorter cable: Wi-Fi draws up to 500 mA when it sends",
    ),
    (
        &["stack overflow in task", "Stack canary watchpoint", "Stack protection fault", "Stack pointer out of range"],
        "a task overran its stack",
        "make that task's stack larger (xTaskCreate; CONFIG_ESP_MAIN_TASK_STACK_SIZE for main): a TLS handshake needs 6 KiB and more",
    ),
    (
        &["CORRUPT HEAP", "assert failed: heap", "assert failed: multi_heap", "assert failed: block_"],
        "the firmware wrote past the end of its memory",
        "set CONFIG_HEAP_POISONING_COMPREHENSIVE, run it again, and decode the backtrace: idf.py monitor",
    ),
    (
        &[
            "ESP_ERR_NO_MEM",
            "SSL_ALLOC_FAILED",
            "returned -0x7F00",
            "returned -0x7f00",
            "returned -0x10",
            "returned -0x0010",
            "malloc failed",
            "malloc buffer fail",
            "Failed to allocate",
            "failed to allocate",
            "out of memory",
            "Memory exhausted",
            "mem alloc fail",
        ],
        "the heap is used up: there is no room for what is to be allocated",
        "print esp_get_minimum_free_heap_size(); a TLS connection takes 40 KB: lower CONFIG_MBEDTLS_SSL_IN_CONTENT_LEN, connect once at a time",
    ),
    (
        &["Task watchdog got triggered"],
        "a task did not let others run for seconds (task watchdog)",
        "look at the task named in the next lines: let it wait (vTaskDelay) in its loop",
    ),
    (
        &["Interrupt wdt timeout", "TG1WDT_SYS_RESET", "TG0WDT_SYS_RESET", "RTCWDT_RTC_RESET", "TG1WDT_CPU", "TG0WDT_CPU"],
        "interrupts were off for too long, or the program hung (watchdog)",
        "decode the backtrace before it: idf.py monitor; look for long critical sections and interrupt handlers",
    ),
    (
        &["LoadProhibited", "StoreProhibited", "Load access fault", "Store access fault", "LoadStoreAlignment", "LoadStoreError"],
        "the firmware used a pointer that leads nowhere",
        "decode the backtrace: idf.py monitor, or addr2line -pfiaC -e build/APP.elf ADDRESSES",
    ),
    (
        &[
            "IllegalInstruction",
            "InstrFetchProhibited",
            "Instruction access fault",
            "Illegal instruction",
            "Cache disabled but cached",
        ],
        "the firmware ran into what is no code",
        "decode the backtrace: idf.py monitor, or addr2line -pfiaC -e build/APP.elf ADDRESSES",
    ),
    (
        &["assert failed:", "ESP_ERROR_CHECK failed"],
        "the firmware found something that it takes to be impossible, and gave up",
        "read the file and line that it names; decode the backtrace: idf.py monitor",
    ),
    (&["panicked at "], "the firmware panicked", "read the file and line that it names"),
    (
        &["Guru Meditation Error", "abort() was called", "Backtrace:0x", "Backtrace: 0x"],
        "the firmware crashed",
        "decode the backtrace: idf.py monitor, or addr2line -pfiaC -e build/APP.elf ADDRESSES",
    ),
    (
        &["invalid header: 0x", "No bootable app partitions", "flash read err", "ets_main.c", "csum err"],
        "there is no program in the flash that the chip can start",
        "flash it again, for this chip and flash size: idf.py -p PORT erase-flash flash",
    ),
];

/// Which entry is only a want of memory, which a device may get over.
const WANT: usize = 3;

/// What a line says of a device that dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Death {
    rank: usize,
}

impl Death {
    /// The death in this line.
    pub fn in_line(line: &str) -> Option<Death> {
        WORDS.iter().position(|(words, ..)| words.iter().any(|word| line.contains(word))).map(|rank| Death { rank })
    }

    /// Whether the device may go on.
    pub fn may_pass(self) -> bool {
        self.rank == WANT
    }

    /// Whether it tells more than another.
    pub fn tells_more_than(self, other: Death) -> bool {
        self.rank < other.rank
    }

    /// As trouble.
    pub fn trouble(self, line: &str) -> Trouble {
        let (_, likely, help) = WORDS[self.rank];
        Trouble { line: printable(line.trim()).into_owned(), likely, help, scenario: None, report: None }
    }
}
