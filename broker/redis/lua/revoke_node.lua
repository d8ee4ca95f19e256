-- The functions of revoke.lua that nodes call. As in node.lua: never change what a name does, add a new one.

-- Who is out must be out, be the memory full or not. It is bounded.
redis.register_function{ function_name = 'sluice_revoke_1', callback = revoke, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'sluice_revoked_1', callback = revoked, flags = { 'no-writes' } }
