-- Whether there is a schema of this name, whatever is in it.
select to_regnamespace(quote_ident($1)) is not null;
