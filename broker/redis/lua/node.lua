-- What Sluice's nodes call. The number in the names is the version: never change what a name does, add a
-- new one, so that nodes of two versions can run on one Redis.

redis.register_function('sluice_publish_2', publish)
-- Reading must go on when the memory is full, although it may have to write a genesis.
redis.register_function{ function_name = 'sluice_read_2', callback = read, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'sluice_ready_2', callback = function() return 1 end, flags = { 'no-writes' } }
