//! Whether a schema fits a build: a comparison of the migrations that made it with those that the build knows.
//!
//! Until the first release migrations are edited in place, so equal versions alone prove nothing: their checksums are
//! compared too.

/// A migration that was applied to a schema: its version and its checksum.
pub type AppliedMigration = (i64, Vec<u8>);

/// How a schema fits a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaFit {
    /// The build's migrations made it.
    Exact,
    /// The first of the build's migrations made it, up to this version; 0 if there is no schema.
    Older(i64),
    /// All of the build's migrations made it, and more, up to this version.
    Newer(i64),
    /// Another set of migrations made it: the first difference is at this version.
    OtherSet(i64),
}

impl SchemaFit {
    /// Compares what was applied with what a build knows, both in order.
    pub fn of<'k>(known: impl IntoIterator<Item = (i64, &'k [u8])>, applied: &[AppliedMigration]) -> Self {
        let newest = |otherwise: i64| applied.last().map_or(otherwise, |(version, _)| *version);
        let mut known = known.into_iter();
        for (version, checksum) in applied {
            match known.next() {
                Some(migration) if migration == (*version, &checksum[..]) => {}
                Some((version, _)) => return Self::OtherSet(version),
                None => return Self::Newer(newest(*version)),
            }
        }
        match known.next() {
            Some(_) => Self::Older(newest(0)),
            None => Self::Exact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_fits_by_the_versions_and_checksums_of_its_migrations() {
        let all: Vec<AppliedMigration> = (1..=4).map(|version| (version, vec![0xc0 + version as u8])).collect();
        let fit = |applied: &[AppliedMigration]| {
            SchemaFit::of(all.iter().map(|(version, sum)| (*version, &sum[..])), applied)
        };
        assert_eq!(fit(&all), SchemaFit::Exact);
        assert_eq!(fit(&[]), SchemaFit::Older(0));
        assert_eq!(fit(&all[..3]), SchemaFit::Older(3));
        let more = [&all[..], &[(5, vec![0]), (9001, vec![0])]].concat();
        assert_eq!(fit(&more), SchemaFit::Newer(9001));
        let mut edited = all.clone();
        edited[1].1 = vec![0];
        assert_eq!(fit(&edited), SchemaFit::OtherSet(2));
        let gap = [&all[..2], &all[3..]].concat();
        assert_eq!(fit(&gap), SchemaFit::OtherSet(3));
    }
}
