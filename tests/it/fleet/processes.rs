//! The processes of the fleet and their PostgreSQL, and what was done to them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use sapwood_tests::cluster::Server;
use sapwood_tests::faults::Proxy;
use sapwood_tests::fleet::ENTRIES;
use sapwood_tests::process::{Process, Program};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};

use super::PROCESSES;
use super::faults::{BEHIND_PROXY, Fault};

/// Where each process listens, in the order of the fleet: changes when one is launched anew.
pub(super) type Addresses = Arc<Mutex<Vec<String>>>;

/// What was done to a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    /// The system's id of it.
    pub(super) process: u32,
    pub(super) kind: TroubleKind,
    pub(super) from: Timestamp,
    /// When it was over; `None` for one that was killed.
    pub(super) until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TroubleKind {
    Killed,
    Stopped,
    CutOff,
}

/// Makes the table in which functions write. Nothing in it keeps an entry from being made twice.
async fn make_entries(url: &str) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL answers");
    let create = AssertSqlSafe(format!("create table {ENTRIES} (step text not null)"));
    connection.execute(create).await.expect("the table is made");
}

/// The fleet.
pub(super) struct Fleet {
    // Before the server, so that they are killed first.
    processes: Vec<Process>,
    pub(super) server: Server,
    proxy: Proxy,
    place: PathBuf,
    effects: PathBuf,
    pub(super) addresses: Addresses,
    pub(super) troubles: Vec<Trouble>,
}

impl Fleet {
    /// All processes, on a server of their own.
    pub(super) async fn launch(place: &Path, effects: &Path) -> Self {
        let server = Server::primary().await;
        make_entries(&server.url()).await;
        let proxy = Proxy::before(&server.address()).await;
        let mut fleet = Self {
            processes: Vec::new(),
            server,
            proxy,
            place: place.to_owned(),
            effects: effects.to_owned(),
            addresses: Addresses::default(),
            troubles: Vec::new(),
        };
        for at in 0..PROCESSES {
            let (process, address) = fleet.start(at);
            fleet.processes.push(process);
            fleet.addresses.lock().push(address);
        }
        fleet
    }

    fn start(&self, at: usize) -> (Process, String) {
        let store = if at == BEHIND_PROXY {
            format!("postgres://sapwood@{}/postgres", self.proxy.address())
        } else {
            self.server.url()
        };
        let settings = [
            ("SAPWOOD_STORE", store),
            ("SAPWOOD_LISTEN", "127.0.0.1:0".to_owned()),
            ("SAPWOOD_SHUTDOWN_TIMEOUT", "20s".to_owned()),
            ("FLEET_EFFECTS", self.effects.display().to_string()),
        ];
        let process = Program::foreign(env!("CARGO_BIN_EXE_fleet"), &self.place).environment(settings).start();
        let told = block_in_place(|| process.told("listening on http://"));
        let address = told.split(';').next().expect("an address").to_owned();
        (process, address)
    }

    /// Makes the faults, each at its time.
    pub(super) async fn suffer(&mut self, faults: &[(Duration, Fault)]) {
        let begun = Instant::now();
        for (at, fault) in faults {
            sleep_until(begun + *at).await;
            println!("{:>9.3?} {fault:?}", begun.elapsed());
            self.meet(*fault).await;
        }
    }

    async fn meet(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(at) => {
                self.begins(at, TroubleKind::Killed);
                self.processes[at].kill_at_once();
            }
            Fault::Launch(at) => {
                let (process, address) = self.start(at);
                self.processes[at] = process;
                self.addresses.lock()[at] = address;
            }
            Fault::Stop(at) => {
                self.begins(at, TroubleKind::Stopped);
                self.processes[at].stand_still();
            }
            Fault::GoOn(at) => {
                self.processes[at].go_on();
                self.ends(at);
            }
            Fault::Restart => self.server.restart().await,
            Fault::Silence => {
                self.begins(BEHIND_PROXY, TroubleKind::CutOff);
                self.proxy.fall_silent();
            }
            Fault::Heal => {
                self.proxy.heal();
                self.ends(BEHIND_PROXY);
            }
        }
    }

    fn begins(&mut self, at: usize, kind: TroubleKind) {
        let process = self.processes[at].id();
        self.troubles.push(Trouble { process, kind, from: Timestamp::now(), until: None });
    }

    fn ends(&mut self, at: usize) {
        let process = self.processes[at].id();
        let mut troubles = self.troubles.iter_mut().rev();
        let last = troubles.find(|trouble| trouble.process == process).expect("it has begun");
        last.until = Some(Timestamp::now());
    }

    /// The system's ids of the processes, all of which run.
    pub(super) fn ids(&mut self) -> Vec<u32> {
        for process in &mut self.processes {
            assert!(process.runs(), "it has ended by itself: {}", process.printed());
        }
        self.processes.iter().map(Process::id).collect()
    }

    /// Ends the processes as an operator does; each ends well.
    pub(super) fn end(&mut self) {
        for process in &self.processes {
            process.terminate();
        }
        for process in self.processes.drain(..) {
            let _ = block_in_place(|| process.ended().well());
        }
    }
}
