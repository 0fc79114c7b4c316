// Core: accounts and profiles, on the native MongoDB driver.
import { application } from '../web/application.js';
import { validateAccountExists } from '../web/auth.js';
import { numberSetting, setting } from '../web/environment.js';
import { serve } from '../web/lifecycle.js';
import { accountRoutes, walletAccounts } from './accounts.js';
import { connect } from './database.js';
import { profileRoutes } from './profiles.js';

const port = numberSetting('PORT');
const secret = setting('JWT_SECRET');
const database = await connect(setting('MONGO_URL'));
const authenticated = validateAccountExists(secret, walletAccounts(database));

const app = application({
  ping: database.ping,
  routers: {
    '/api/accounts': accountRoutes(database, authenticated),
    '/api/profiles': profileRoutes(database, authenticated),
  },
});

await serve(app, { service: 'core', port, afterStop: () => database.client.close() });
