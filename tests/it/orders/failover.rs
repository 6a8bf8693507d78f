//! The 1,000 orders, while their PostgreSQL fails over to a synchronous standby.

use sapwood_tests::cluster::Server;
use sapwood_tests::faults::Proxy;
use sapwood_tests::sqlite::TestFile;

use super::{EFFECTS, TOTALS, noted, orders, totals};

/// Kills of the primary in one run; each makes the standby the next primary.
const FAILOVERS: usize = 2;

/// C2, C5, R3, E4: a failover that loses no commit changes no total, and the process lives through it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn failovers_to_a_synchronous_standby_change_no_total() {
    let place = TestFile::fresh();
    let effects = place.directory().join(EFFECTS);
    let mut primary = Server::primary().await;
    let proxy = Proxy::before(&primary.address()).await;
    let settings = [
        ("SAPWOOD_STORE", format!("postgres://sapwood@{}/postgres", proxy.address())),
        ("SAPWOOD_BROKER", "log".to_owned()),
    ];
    let arguments = ["--once", "--latency", "2", "--effects", EFFECTS];
    let mut run = orders(place.directory()).arguments(arguments).environment(settings).start();
    for failover in 1..=FAILOVERS {
        let standby = primary.standby().await;
        let synchronous = ["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"];
        primary.execute(&synchronous).await;
        primary.until("exists (select from pg_stat_replication where sync_state = 'sync')").await;
        noted(&effects, failover * 1_200, &mut run).await;

        primary.kill();
        standby.execute(&["select pg_promote()"]).await;
        let alone = ["alter system reset synchronous_standby_names", "select pg_reload_conf()"];
        standby.execute(&alone).await;
        proxy.lead_to(&standby.address());
        primary = standby;
    }
    let out = run.ended().well();
    assert_eq!(totals(&out), TOTALS, "{out}");
}
