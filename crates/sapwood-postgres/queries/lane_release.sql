update lane set publisher = null where publisher = $1;
