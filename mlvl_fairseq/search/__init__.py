"""Search of pictures: an index folder, engines that find the nearest vectors, and a page that is served from them."""
