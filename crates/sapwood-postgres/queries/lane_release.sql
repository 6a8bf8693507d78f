update context.lane set publisher = null where publisher = $1;
