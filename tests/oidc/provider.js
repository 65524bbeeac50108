// A stock OpenID provider on loopback. It is told what to do by lines on its standard input, and answers each with a line of JSON:
//
//   token CLIENT    an access token (JWT) of the client, by the client credentials grant
//   rotate          another key in place of the old one
//   add             another key before the old one
//   count           how often the key set was asked for
//
// It listens on the port that is its first argument (0: any), and ends with its standard input.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const RESOURCE = 'urn:tollgate';
const ALGORITHM = process.argv[3] ?? 'RS256';

function key() {
  const pair = ALGORITHM === 'ES256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...pair.privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: ALGORITHM };
}

function client(client_id, ...scopes) {
  return {
    client_id,
    client_secret: `${client_id}-secret`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: scopes.join(' '),
    id_token_signed_response_alg: ALGORITHM,
  };
}

let keys = [key()];
let handle;
let asked = 0;
const server = createServer((request, response) => {
  if (request.url === '/jwks') asked += 1;
  handle(request, response);
});
await new Promise((resolve) => server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

function provide() {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [client('acme', 'invoke'), client('globex', 'invoke')],
    scopes: ['invoke'],
    enabledJWA: { idTokenSigningAlgValues: [ALGORITHM] },
    ttl: { ClientCredentials: 600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => RESOURCE,
        getResourceServerInfo: (_ctx, resource) => ({
          audience: resource === RESOURCE ? 'tollgate' : resource,
          scope: 'invoke',
          accessTokenFormat: 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: ALGORITHM } },
        }),
      },
    },
    extraTokenClaims: (_ctx, token) => ({ tenant: token.clientId, groups: ['machines', token.clientId] }),
  });
  handle = provider.callback();
}
provide();

async function token(name, resource) {
  const body = new URLSearchParams({ grant_type: 'client_credentials', scope: 'invoke', resource: resource ?? RESOURCE });
  const authorization = `Basic ${Buffer.from(`${name}:${name}-secret`).toString('base64')}`;
  const response = await fetch(`${issuer}/token`, { method: 'POST', body, headers: { authorization } });
  const answer = await response.json();
  if (!response.ok) throw new Error(JSON.stringify(answer));
  return answer.access_token;
}

async function obey(command, ...words) {
  switch (command) {
    case 'token':
      return { token: await token(...words) };
    case 'rotate':
      keys = [key()];
      provide();
      return { kid: keys[0].kid };
    case 'add':
      keys = [key(), ...keys];
      provide();
      return { kid: keys[0].kid };
    case 'count':
      return { count: asked };
    default:
      throw new Error(`no command ${command}`);
  }
}

console.log(JSON.stringify({ issuer }));
for await (const line of createInterface({ input: process.stdin })) {
  const answer = await obey(...line.split(' ')).catch((error) => ({ error: String(error) }));
  console.log(JSON.stringify(answer));
}
process.exit(0);
