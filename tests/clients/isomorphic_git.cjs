// A clone, a commit and a push with isomorphic-git: node isomorphic_git.cjs URL USER PASSWORD DIRECTORY
// Prints one line of JSON with what it saw.
const fs = require('fs')
const git = require('isomorphic-git')
const http = require('isomorphic-git/http/node')

const [url, username, password, dir] = process.argv.slice(2)
const onAuth = () => ({ username, password })
const onAuthFailure = () => ({ cancel: true })

async function main () {
  await git.clone({ fs, http, dir, url, onAuth, onAuthFailure })
  const before = await git.resolveRef({ fs, dir, ref: 'HEAD' })
  const commits = (await git.log({ fs, dir })).length
  await fs.promises.writeFile(`${dir}/from-javascript`, 'hello\n')
  await git.add({ fs, dir, filepath: 'from-javascript' })
  const author = { name: 'Test', email: 'test@example.com' }
  const after = await git.commit({ fs, dir, message: 'Add from-javascript', author })
  const pushed = await git.push({ fs, http, dir, url, onAuth, onAuthFailure, ref: 'main' })
  const remote = await git.listServerRefs({ http, url, onAuth, onAuthFailure, prefix: 'refs/heads/' })
  console.log(JSON.stringify({ before, commits, after, pushed, remote }))
}

main().catch(error => {
  console.error(`${error.code}: ${error.message}`)
  process.exit(1)
})
